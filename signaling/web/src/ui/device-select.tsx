import { useMediaDeviceSelect } from '@livekit/components-react';
import type { Room } from 'livekit-client';
import { useId } from 'react';

const LABELS = { audioinput: 'Microphone', videoinput: 'Camera', audiooutput: 'Speaker' } as const;

interface Props {
  kind: MediaDeviceKind;
  value: string;
  onChange: (deviceId: string) => void;
  room?: Room;
  /** Set once a device has been opened: only then do browsers reveal device names. */
  opened?: unknown;
  disabled?: boolean;
}

export function DeviceSelect({ kind, value, onChange, room, opened, disabled = false }: Props) {
  // Without HTTPS browsers offer no devices, and the hook below would throw.
  if (!('mediaDevices' in navigator)) return <Select kind={kind} devices={[]} selected="" disabled onChange={onChange} />;
  return <ListedSelect key={opened ? 'named' : 'unnamed'} kind={kind} value={value} onChange={onChange} room={room} disabled={disabled} />;
}

interface ListedProps {
  kind: MediaDeviceKind;
  value: string;
  onChange: (deviceId: string) => void;
  room: Room | undefined;
  disabled: boolean;
}

function ListedSelect({ kind, value, onChange, room, disabled }: ListedProps) {
  const { devices, activeDeviceId } = useMediaDeviceSelect({ kind, ...(room ? { room } : {}) });
  // Some browsers list one device per kind with an empty id until the person has allowed access.
  const named = devices.filter((device) => device.deviceId !== '');
  const selected = [value, activeDeviceId].find((wanted) => named.some((device) => device.deviceId === wanted));
  const shown = selected ?? named[0]?.deviceId ?? '';
  return <Select kind={kind} devices={named} selected={shown} disabled={disabled || named.length === 0} onChange={onChange} />;
}

interface SelectProps {
  kind: MediaDeviceKind;
  devices: MediaDeviceInfo[];
  selected: string;
  disabled: boolean;
  onChange: (deviceId: string) => void;
}

function Select({ kind, devices, selected, disabled, onChange }: SelectProps) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{LABELS[kind]}</label>
      <select id={id} value={selected} disabled={disabled} onChange={(event) => onChange(event.target.value)}>
        {devices.length === 0 && <option value="">{kind === 'audiooutput' ? 'Chosen by the system' : 'None available'}</option>}
        {devices.map((device, index) => (
          <option key={device.deviceId} value={device.deviceId}>
            {device.label || `${LABELS[kind]} ${index + 1}`}
          </option>
        ))}
      </select>
    </div>
  );
}
