import type { ReactNode } from 'react';
import { refusal } from '../lib/allowed';
import { Icon, type IconName } from '../ui/icon';
import type { Devices } from './use-devices';

interface Props {
  devices: Devices;
  chatOpen: boolean;
  unread: number;
  onChat: () => void;
  onLeave: () => void;
  children: ReactNode;
}

export function Controls({ devices, chatOpen, unread, onChat, onLeave, children }: Props) {
  return (
    <footer className="controls">
      <div className="controls-row" role="toolbar" aria-label="Call">
        <Switch device="microphone" devices={devices} label="Microphone" hint="M" icons={['mic', 'micOff']} onPress={devices.toggleMicrophone} />
        <Switch device="camera" devices={devices} label="Camera" hint="V" icons={['camera', 'cameraOff']} onPress={devices.toggleCamera} />
        {devices.canShareScreen && (
          <button
            type="button"
            className="round only-wide"
            data-active={devices.screen}
            aria-pressed={devices.screen}
            aria-label="Share the screen"
            aria-busy={devices.busy.has('screen')}
            aria-disabled={!devices.allowed.screen}
            title={!devices.allowed.screen ? refusal('screen', devices.allowed) : devices.screen ? 'Stop sharing (S)' : 'Share the screen (S)'}
            onClick={devices.toggleScreen}
          >
            <Icon name="screen" />
          </button>
        )}
        <button
          type="button"
          className="round"
          data-active={chatOpen}
          aria-expanded={chatOpen}
          aria-label={unread > 0 ? `Chat, ${unread} unread` : 'Chat'}
          title="Chat (C)"
          onClick={onChat}
        >
          <Icon name="chat" />
          {unread > 0 && <span className="badge">{unread > 9 ? '9+' : unread}</span>}
        </button>
        {children}
        <button type="button" className="leave" onClick={onLeave}>
          <Icon name="leave" />
          <span>Leave</span>
        </button>
      </div>
    </footer>
  );
}

interface SwitchProps {
  device: 'microphone' | 'camera';
  devices: Devices;
  label: string;
  hint: string;
  icons: [on: IconName, off: IconName];
  onPress: () => void;
}

function Switch({ device, devices, label, hint, icons, onPress }: SwitchProps) {
  const on = devices[device];
  const may = devices.allowed[device];
  return (
    <button
      type="button"
      className="round"
      data-off={!on}
      aria-pressed={on}
      aria-label={label}
      aria-busy={devices.busy.has(device)}
      // Not `disabled`, so that the button stays focusable and, when pressed, tells why it cannot be used.
      aria-disabled={!may}
      title={may ? `${label} ${on ? 'off' : 'on'} (${hint})` : refusal(device, devices.allowed)}
      onClick={onPress}
    >
      <Icon name={on ? icons[0] : icons[1]} />
    </button>
  );
}
