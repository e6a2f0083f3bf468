import { useEffect, useState } from 'react';
import { clock } from '../lib/people';

export function Clock({ since }: { since: number }) {
  const [now, setNow] = useState(since);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return (
    <time className="clock" role="timer" aria-label="Time in this call">
      {clock(Math.max(0, Math.round((now - since) / 1000)))}
    </time>
  );
}
