// Sheet with the less frequently used controls, and with those that a narrow header has no room for.

import type { Room } from 'livekit-client';
import { deviceProblem } from '../lib/errors';
import type { Choices } from '../lib/memory';
import { DeviceSelect } from '../ui/device-select';
import { Icon } from '../ui/icon';
import { useDark } from '../ui/theme';
import type { Tell } from './notices';
import type { Devices } from './use-devices';

interface Props {
  room: Room;
  choices: Choices;
  choose: (change: Partial<Choices>) => void;
  devices: Devices;
  onInvite: () => void;
  onHelp: () => void;
  tell: Tell;
}

export function More({ room, choices, choose, devices, onInvite, onHelp, tell }: Props) {
  const dark = useDark(choices.theme);
  const switchDevice = (kind: MediaDeviceKind, deviceId: string, change: Partial<Choices>) => {
    room.switchActiveDevice(kind, deviceId).then(
      () => choose(change),
      (error: unknown) => {
        const problem = deviceProblem(kind === 'videoinput' ? 'camera' : kind === 'audioinput' ? 'microphone' : 'speaker', error);
        tell(`${problem.title}. ${problem.detail}`, 'problem');
      },
    );
  };
  return (
    <>
      <button type="button" className="round" popoverTarget="more" aria-label="More" title="More">
        <Icon name="more" />
      </button>
      <div id="more" popover="auto" className="sheet" role="group" aria-label="More">
        <fieldset>
          <legend>View</legend>
          <label className="choice">
            <input type="radio" name="view" checked={choices.view === 'grid'} onChange={() => choose({ view: 'grid' })} />
            <Icon name="grid" size={18} /> Everyone in a grid
          </label>
          <label className="choice">
            <input type="radio" name="view" checked={choices.view === 'speaker'} onChange={() => choose({ view: 'speaker' })} />
            <Icon name="speaker" size={18} /> The speaker large
          </label>
          <label className="choice">
            <input type="checkbox" checked={choices.overlay} onChange={(event) => choose({ overlay: event.target.checked })} />
            <Icon name="figures" size={18} /> Figures on every tile
          </label>
          <label className="choice">
            <input type="checkbox" checked={dark} onChange={(event) => choose({ theme: event.target.checked ? 'dark' : 'light' })} />
            <Icon name="moon" size={18} /> Dark colours
          </label>
        </fieldset>
        <fieldset>
          <legend>Devices</legend>
          <DeviceSelect
            kind="audioinput"
            room={room}
            opened={devices.microphone}
            value={choices.microphoneId}
            onChange={(microphoneId) => switchDevice('audioinput', microphoneId, { microphoneId })}
          />
          <DeviceSelect
            kind="videoinput"
            room={room}
            opened={devices.camera}
            value={choices.cameraId}
            onChange={(cameraId) => switchDevice('videoinput', cameraId, { cameraId })}
          />
          <DeviceSelect
            kind="audiooutput"
            room={room}
            opened={devices.microphone}
            value={choices.speakerId}
            onChange={(speakerId) => switchDevice('audiooutput', speakerId, { speakerId })}
          />
        </fieldset>
        <div className="sheet-actions">
          <button type="button" className="chip" onClick={onInvite}>
            <Icon name="link" size={18} /> Copy invite link
          </button>
          <button type="button" className="chip" popoverTarget="more" popoverTargetAction="hide" onClick={onHelp}>
            <Icon name="keyboard" size={18} /> Shortcuts
          </button>
        </div>
      </div>
    </>
  );
}
