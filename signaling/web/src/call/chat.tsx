import type { ReceivedChatMessage } from '@livekit/components-react';
import { useEffect, useRef, type SyntheticEvent } from 'react';
import { putBack } from '../lib/draft';
import { linkParts } from '../lib/people';
import { Icon } from '../ui/icon';
import type { Tell } from './notices';

interface Props {
  messages: ReceivedChatMessage[];
  /** Text that is not sent yet; kept while the chat is closed. */
  draft: string;
  setDraft: (change: string | ((now: string) => string)) => void;
  mayWrite: boolean;
  sending: boolean;
  send: (message: string) => Promise<unknown>;
  me: string;
  onClose: () => void;
  tell: Tell;
}

export function Chat({ messages, draft, setDraft, mayWrite, sending, send, me, onClose, tell }: Props) {
  const list = useRef<HTMLOListElement>(null);
  const field = useRef<HTMLInputElement>(null);

  useEffect(() => field.current?.focus(), []);
  useEffect(() => {
    list.current?.scrollTo({ top: list.current.scrollHeight });
  }, [messages]);

  const submit = (event: SyntheticEvent) => {
    event.preventDefault();
    const message = draft.trim();
    if (!message || sending || !mayWrite) return;
    // The field is cleared for the next message while this one is being sent.
    setDraft('');
    send(message).catch(() => {
      setDraft((now) => putBack(message, now));
      tell('The message could not be sent. Try again.', 'problem');
    });
  };

  return (
    <aside className="chat" aria-label="Chat">
      <header>
        <h2>Chat</h2>
        <button type="button" className="plain" aria-label="Close the chat" onClick={onClose}>
          <Icon name="close" size={18} />
        </button>
      </header>
      {messages.length === 0 && <p className="soft chat-empty">Everyone who is in the call now can read along. Nothing is kept when it ends.</p>}
      <ol ref={list} role="log" aria-live="polite" aria-label="Messages">
        {messages.map((message, index) => (
          <Message key={message.id} message={message} mine={message.from?.identity === me} follows={follows(messages[index - 1], message)} />
        ))}
      </ol>
      <form onSubmit={submit}>
        <input
          ref={field}
          aria-label="Message to everyone"
          placeholder={mayWrite ? 'Message to everyone' : READ_ONLY}
          readOnly={!mayWrite}
          autoComplete="off"
          maxLength={4000}
          value={draft}
          onChange={(event) => setDraft(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === 'Escape') onClose();
          }}
        />
        <button type="submit" className="round small" aria-label="Send" disabled={!draft.trim() || sending || !mayWrite}>
          <Icon name="send" size={18} />
        </button>
      </form>
    </aside>
  );
}

function Message({ message, mine, follows }: { message: ReceivedChatMessage; mine: boolean; follows: boolean }) {
  return (
    <li className="message" data-mine={mine}>
      {!follows && (
        <p className="message-head">
          <strong>{mine ? 'You' : message.from?.name || message.from?.identity || 'Somebody'}</strong>
          <time>{new Date(message.timestamp).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })}</time>
        </p>
      )}
      <p className="bubble">
        {linkParts(message.message).map((part, index) =>
          part.link ? (
            <a key={index} href={part.text} target="_blank" rel="noopener noreferrer">
              {part.text}
            </a>
          ) : (
            part.text
          ),
        )}
      </p>
    </li>
  );
}

/** Whether a message follows one of the same person within two minutes, so that it needs no heading of its own. */
function follows(before: ReceivedChatMessage | undefined, message: ReceivedChatMessage): boolean {
  return before?.from?.identity === message.from?.identity && message.timestamp - (before?.timestamp ?? 0) < 120_000;
}

export const READ_ONLY = 'You may read the chat, but not write in it.';
