import { RoomContext } from '@livekit/components-react';
import { ConnectionState, RoomEvent, type DisconnectReason, type Room } from 'livekit-client';
import { useCallback, useEffect, useState } from 'react';
import { Call } from './call/call';
import { enterRoom, type Entry } from './join/enter';
import { Join } from './join/join';
import { addressOfRoom } from './lib/address';
import { endProblem, joinProblem, type Problem } from './lib/errors';
import { recall, remember, type Choices } from './lib/memory';
import { useTheme } from './ui/theme';

type Phase =
  | { at: 'door'; problem: Problem | undefined; left: boolean }
  | { at: 'entering' }
  | { at: 'call'; room: Room; since: number; entry: Entry };

export function App() {
  const [choices, setChoices] = useState(recall);
  const [phase, setPhase] = useState<Phase>({ at: 'door', problem: undefined, left: false });
  useTheme(choices.theme);

  const choose = useCallback((change: Partial<Choices>) => setChoices((now) => ({ ...now, ...change })), []);
  useEffect(() => remember(choices), [choices]);

  const enter = useCallback(async (entry: Entry) => {
    setPhase({ at: 'entering' });
    try {
      const room = await enterRoom(entry);
      history.replaceState(null, '', addressOfRoom(location.search, entry.roomName));
      setPhase({ at: 'call', room, since: Date.now(), entry });
    } catch (error) {
      console.warn('The call could not be joined.', error);
      setPhase({ at: 'door', problem: joinProblem(error), left: false });
    }
  }, []);

  const room = phase.at === 'call' ? phase.room : undefined;
  useEffect(() => {
    if (!room) return;
    const ended = (reason?: DisconnectReason) => setPhase({ at: 'door', problem: endProblem(reason), left: true });
    // The call may have ended between joining and this effect.
    if (room.state === ConnectionState.Disconnected) ended();
    room.once(RoomEvent.Disconnected, ended);
    return () => void room.off(RoomEvent.Disconnected, ended);
  }, [room]);

  if (phase.at === 'call') {
    return (
      <RoomContext.Provider value={phase.room}>
        <Call room={phase.room} since={phase.since} entry={phase.entry} choices={choices} choose={choose} />
      </RoomContext.Provider>
    );
  }
  return (
    <Join
      choices={choices}
      choose={choose}
      entering={phase.at === 'entering'}
      problem={phase.at === 'door' ? phase.problem : undefined}
      left={phase.at === 'door' && phase.left}
      onEnter={(entry) => void enter(entry)}
    />
  );
}
