import type { ReactNode } from 'react';
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
        <Switch on={devices.microphone} label="Microphone" hint="M" icons={['mic', 'micOff']} onPress={devices.toggleMicrophone} />
        <Switch on={devices.camera} label="Camera" hint="V" icons={['camera', 'cameraOff']} onPress={devices.toggleCamera} />
        {devices.canShareScreen && (
          <button
            type="button"
            className="round only-wide"
            data-active={devices.screen}
            aria-pressed={devices.screen}
            aria-label="Share the screen"
            title={devices.screen ? 'Stop sharing (S)' : 'Share the screen (S)'}
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
  on: boolean;
  label: string;
  hint: string;
  icons: [on: IconName, off: IconName];
  onPress: () => void;
}

function Switch({ on, label, hint, icons, onPress }: SwitchProps) {
  return (
    <button type="button" className="round" data-off={!on} aria-pressed={on} aria-label={label} title={`${label} ${on ? 'off' : 'on'} (${hint})`} onClick={onPress}>
      <Icon name={on ? icons[0] : icons[1]} />
    </button>
  );
}
