import { useMediaDeviceSelect } from '@livekit/components-react';
import type { Room } from 'livekit-client';
import { useId } from 'react';

const LABELS = { audioinput: 'Microphone', videoinput: 'Camera', audiooutput: 'Speaker' } as const;

interface Props {
  kind: MediaDeviceKind;
  value: string;
  onChange: (deviceId: string) => void;
  room?: Room;
  /** Changes when a device was opened: only then do browsers tell the devices' names. */
  opened?: unknown;
}

export function DeviceSelect({ kind, value, onChange, room, opened }: Props) {
  // Without https there is nothing to list, and the hook below would throw.
  if (!('mediaDevices' in navigator)) return <Select kind={kind} devices={[]} selected="" onChange={onChange} />;
  return <ListedSelect key={opened ? 'named' : 'unnamed'} kind={kind} value={value} onChange={onChange} room={room} />;
}

function ListedSelect({ kind, value, onChange, room }: Omit<Props, 'room'> & { room: Room | undefined }) {
  const { devices, activeDeviceId } = useMediaDeviceSelect({ kind, ...(room ? { room } : {}) });
  // Some browsers list one nameless device per kind until the person has allowed access.
  const named = devices.filter((device) => device.deviceId !== '');
  const selected = [value, activeDeviceId].find((wanted) => named.some((device) => device.deviceId === wanted));
  return <Select kind={kind} devices={named} selected={selected ?? named[0]?.deviceId ?? ''} onChange={onChange} />;
}

interface SelectProps {
  kind: MediaDeviceKind;
  devices: MediaDeviceInfo[];
  selected: string;
  onChange: (deviceId: string) => void;
}

function Select({ kind, devices, selected, onChange }: SelectProps) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{LABELS[kind]}</label>
      <select id={id} value={selected} disabled={devices.length === 0} onChange={(event) => onChange(event.target.value)}>
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
