import { RoomAudioRenderer, useChat, useLocalParticipantPermissions, useTracks } from '@livekit/components-react';
import { Track, type Room } from 'livekit-client';
import { useCallback, useEffect, useRef, useState } from 'react';
import type { Entry } from '../join/enter';
import { inviteLink } from '../lib/address';
import type { Choices } from '../lib/memory';
import { Mark, Icon } from '../ui/icon';
import { Chat, READ_ONLY } from './chat';
import { Clock } from './clock';
import { Controls } from './controls';
import { More } from './more';
import { Banner, useNotices, Notices } from './notices';
import { ShortcutHelp } from './shortcut-help';
import { useShortcuts } from './shortcuts';
import { Stage } from './stage';
import { useDevices } from './use-devices';

interface Props {
  room: Room;
  since: number;
  entry: Entry;
  choices: Choices;
  choose: (change: Partial<Choices>) => void;
}

export function Call({ room, since, entry, choices, choose }: Props) {
  const tracks = useTracks(
    [
      { source: Track.Source.Camera, withPlaceholder: true },
      { source: Track.Source.ScreenShare, withPlaceholder: false },
    ],
    { onlySubscribed: false },
  );
  const { notices, tell } = useNotices(room);
  const devices = useDevices(room, entry, tell);
  const chat = useChat();
  const mayWrite = useLocalParticipantPermissions()?.canPublishData !== false;
  const [draft, setDraft] = useState('');
  const [chatOpen, setChatOpen] = useState(false);
  const [seen, setSeen] = useState(0);
  const help = useRef<HTMLDialogElement>(null);

  const messages = chat.chatMessages;
  const unread = chatOpen ? 0 : messages.length - seen;
  const toggleChat = useCallback(() => {
    setSeen(messages.length);
    setChatOpen((open) => !open);
  }, [messages.length]);
  useChatNotices(room, messages, chatOpen, tell);
  useEffect(() => {
    if (!mayWrite) tell(READ_ONLY);
  }, [mayWrite, tell]);

  const invite = useCallback(async () => {
    const link = inviteLink(document.baseURI, room.name);
    try {
      await navigator.clipboard.writeText(link);
      tell('Invite link copied');
    } catch {
      // Clipboard access needs a permission, which may be denied.
      window.prompt('Copy this link', link);
    }
  }, [room, tell]);

  const toggleView = useCallback(() => choose({ view: choices.view === 'grid' ? 'speaker' : 'grid' }), [choose, choices.view]);
  const toggleOverlay = useCallback(() => choose({ overlay: !choices.overlay }), [choose, choices.overlay]);
  const showHelp = useCallback(() => help.current?.showModal(), []);

  useShortcuts({
    m: devices.toggleMicrophone,
    v: devices.toggleCamera,
    s: devices.toggleScreen,
    c: toggleChat,
    g: toggleView,
    o: toggleOverlay,
    i: () => void invite(),
    '?': showHelp,
  });

  useEffect(() => {
    document.title = `${room.name} · Anytime`;
    return () => {
      document.title = 'Anytime';
    };
  }, [room]);

  return (
    <div className="call" data-chat={chatOpen}>
      <header className="call-bar">
        <span className="brand">
          <Mark size={24} />
        </span>
        <h1>{room.name}</h1>
        <Clock since={since} />
        <div className="call-tools">
          <button type="button" className="chip" aria-pressed={choices.view === 'speaker'} onClick={toggleView} title="Grid or speaker view (G)">
            <Icon name={choices.view === 'grid' ? 'grid' : 'speaker'} size={18} />
            {choices.view === 'grid' ? 'Grid' : 'Speaker'}
          </button>
          <button type="button" className="chip" aria-pressed={choices.overlay} onClick={toggleOverlay} title="Figures on every tile (O)">
            <Icon name="figures" size={18} />
            Figures
          </button>
          <button type="button" className="chip" onClick={() => void invite()} title="Copy the invite link (I)">
            <Icon name="link" size={18} />
            Invite
          </button>
        </div>
      </header>
      <Banner room={room} />
      <Stage tracks={tracks} view={choices.view} overlay={choices.overlay} />
      {chatOpen && (
        <Chat
          messages={messages}
          draft={draft}
          setDraft={setDraft}
          mayWrite={mayWrite}
          sending={chat.isSending}
          send={chat.send}
          me={room.localParticipant.identity}
          onClose={toggleChat}
          tell={tell}
        />
      )}
      <Controls devices={devices} chatOpen={chatOpen} unread={unread} onChat={toggleChat} onLeave={() => void room.disconnect()}>
        <More room={room} choices={choices} choose={choose} devices={devices} onInvite={() => void invite()} onHelp={showHelp} tell={tell} />
      </Controls>
      <Notices notices={notices} />
      <ShortcutHelp ref={help} />
      <RoomAudioRenderer room={room} />
    </div>
  );
}

type Messages = ReturnType<typeof useChat>['chatMessages'];

function useChatNotices(room: Room, messages: Messages, open: boolean, tell: (text: string) => void) {
  const told = useRef(0);
  useEffect(() => {
    const fresh = messages.slice(told.current);
    told.current = messages.length;
    if (open) return;
    for (const message of fresh) {
      if (message.from && message.from.identity !== room.localParticipant.identity) {
        tell(`${message.from.name || message.from.identity}: ${message.message}`);
      }
    }
  }, [room, messages, open, tell]);
}
