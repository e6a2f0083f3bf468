import { useEffect, useState, type SyntheticEvent } from 'react';
import { cleanRoom, codecFromAddress, newRoom, roomFromAddress } from '../lib/address';
import type { Problem } from '../lib/errors';
import type { Choices } from '../lib/memory';
import { DeviceSelect } from '../ui/device-select';
import { Icon, Mark } from '../ui/icon';
import { ThemeButton } from '../ui/theme-button';
import type { Entry } from './enter';
import { MicrophoneLevel } from './level';
import { Mirror } from './mirror';
import { useCameraPreview, useMicrophonePreview } from './preview';

interface Props {
  choices: Choices;
  choose: (change: Partial<Choices>) => void;
  entering: boolean;
  problem: Problem | undefined;
  left: boolean;
  onEnter: (entry: Entry) => void;
}

export function Join({ choices, choose, entering, problem, left, onEnter }: Props) {
  const [invited] = useState(() => roomFromAddress(location.search));
  const [room, setRoom] = useState(() => invited || newRoom());
  const camera = useCameraPreview(choices.camera, choices.cameraId);
  const microphone = useMicrophonePreview(choices.microphone, choices.microphoneId);
  const name = choices.name.trim();

  const { giveBack: giveCameraBack } = camera;
  const { giveBack: giveMicrophoneBack } = microphone;
  useEffect(() => {
    if (entering) return;
    giveCameraBack();
    giveMicrophoneBack();
  }, [entering, giveCameraBack, giveMicrophoneBack]);

  const submit = (event: SyntheticEvent) => {
    event.preventDefault();
    const roomName = cleanRoom(room);
    if (!name || !roomName || entering) return;
    onEnter({
      roomName,
      name,
      codec: codecFromAddress(location.search),
      camera,
      microphone,
      cameraId: choices.cameraId,
      microphoneId: choices.microphoneId,
      speakerId: choices.speakerId,
    });
  };

  return (
    <div className="door">
      <header className="door-bar">
        <span className="brand">
          <Mark /> Anytime
        </span>
        <ThemeButton theme={choices.theme} choose={choose} />
      </header>
      <main className="door-main">
        <section className="glass" aria-label="Preview">
          <div className="glass-frame">
            <Mirror track={camera.track} name={name} caption={camera.problem ? 'No picture' : camera.opening ? 'Opening the camera…' : 'Camera is off'} />
            <div className="glass-tools">
              <button
                type="button"
                className="round"
                aria-pressed={choices.microphone}
                aria-label="Microphone"
                title={choices.microphone ? 'Enter with the microphone off' : 'Enter with the microphone on'}
                onClick={() => choose({ microphone: !choices.microphone })}
              >
                <Icon name={choices.microphone ? 'mic' : 'micOff'} />
              </button>
              <button
                type="button"
                className="round"
                aria-pressed={choices.camera}
                aria-label="Camera"
                title={choices.camera ? 'Enter with the camera off' : 'Enter with the camera on'}
                onClick={() => choose({ camera: !choices.camera })}
              >
                <Icon name={choices.camera ? 'camera' : 'cameraOff'} />
              </button>
            </div>
            <MicrophoneLevel track={microphone.track} />
          </div>
          <DeviceTrouble problem={camera.problem} onRetry={camera.retry} />
          <DeviceTrouble problem={microphone.problem} onRetry={microphone.retry} />
        </section>

        <form className="door-form" onSubmit={submit}>
          <h1>{title(invited, left)}</h1>
          <p className="soft">{invited ? `You are invited to ${invited}.` : 'Open a room and send its link to anyone.'}</p>
          <div role="alert">{problem && <ProblemBox problem={problem} />}</div>
          <div className="field">
            <label htmlFor="name">Your name</label>
            <input
              id="name"
              required
              maxLength={64}
              autoComplete="name"
              value={choices.name}
              onChange={(event) => choose({ name: event.target.value })}
            />
          </div>
          <div className="field">
            <label htmlFor="room">Room</label>
            <div className="with-button">
              <input
                id="room"
                required
                maxLength={128}
                autoComplete="off"
                autoCapitalize="off"
                spellCheck={false}
                value={room}
                onChange={(event) => setRoom(event.target.value)}
              />
              <button type="button" className="plain" aria-label="Another room name" title="Another room name" onClick={() => setRoom(newRoom())}>
                <Icon name="dice" size={18} />
              </button>
            </div>
          </div>
          <details className="devices">
            <summary>Devices</summary>
            <DeviceSelect
              kind="videoinput"
              value={choices.cameraId}
              opened={camera.track}
              disabled={entering}
              onChange={(cameraId) => choose({ cameraId })}
            />
            <DeviceSelect
              kind="audioinput"
              value={choices.microphoneId}
              opened={microphone.track}
              disabled={entering}
              onChange={(microphoneId) => choose({ microphoneId })}
            />
            <DeviceSelect
              kind="audiooutput"
              value={choices.speakerId}
              opened={microphone.track}
              disabled={entering}
              onChange={(speakerId) => choose({ speakerId })}
            />
          </details>
          <button type="submit" className="primary" disabled={entering}>
            {entering ? 'Joining…' : left ? 'Join again' : 'Join the call'}
          </button>
        </form>
      </main>
    </div>
  );
}

function title(invited: string, left: boolean): string {
  if (left) return 'You are out';
  return invited ? 'Ready when you are' : 'Talk, anytime';
}

function ProblemBox({ problem }: { problem: Problem }) {
  return (
    <div className="problem">
      <Icon name="warning" />
      <div>
        <strong>{problem.title}</strong>
        <p>{problem.detail}</p>
      </div>
    </div>
  );
}

function DeviceTrouble({ problem, onRetry }: { problem: Problem | undefined; onRetry: () => void }) {
  return (
    <div role="status">
      {problem && (
        <div className="problem">
          <Icon name="warning" />
          <div>
            <strong>{problem.title}</strong>
            <p>{problem.detail}</p>
          </div>
          <button type="button" className="plain" onClick={onRetry}>
            Try again
          </button>
        </div>
      )}
    </div>
  );
}
