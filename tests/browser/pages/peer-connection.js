// Wraps the connections of a page so that tests can modify them; loaded before the client. Statistics are taken from
// the connections themselves, not from the client.

window.connections = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...args) {
    super(...args);
    window.connections.push(this);
  }
  // The client sends VP9 and AV1 as one scalable stream; other clients send several encodings.
  addTransceiver(track, init) {
    const encodings = track.kind === 'video' && init?.sendEncodings && window.videoEncodings;
    return super.addTransceiver(track, encodings ? { ...init, sendEncodings: encodings } : init);
  }

  // A test that needs a page without a codec sets `lacking` to the codec's MIME type.
  createOffer(...args) {
    this.forget();
    return super.createOffer(...args);
  }

  createAnswer(...args) {
    this.forget();
    return super.createAnswer(...args);
  }

  forget() {
    if (!window.lacking) return;
    const all = RTCRtpReceiver.getCapabilities('video').codecs;
    const kept = all.filter((codec) => codec.mimeType !== window.lacking);
    for (const transceiver of this.getTransceivers()) {
      const usable = transceiver.receiver.track.kind === 'video' && transceiver.direction !== 'stopped';
      if (usable) transceiver.setCodecPreferences(kept);
    }
  }

  // A test in which media should arrive before the answer that announces it sets `answersHeldBack` to milliseconds.
  //
  // A test that puts this page behind an emulated link sets `link` to the link's address, and `linkTo` to a function
  // that takes the link's destination. The result is not awaited, because the client relies on the order of its calls.
  setRemoteDescription(description) {
    if (window.answersHeldBack && description?.type === 'answer') {
      const held = new Promise((resolve) => setTimeout(resolve, window.answersHeldBack));
      return held.then(() => super.setRemoteDescription(description));
    }
    if (!window.link || !description?.sdp) return super.setRemoteDescription(description);
    const lines = description.sdp.split('\r\n');
    // One candidate is enough, since all of the server's addresses lead to the same socket.
    const candidates = lines.filter((line) => /^a=candidate:\S+ 1 udp \d+ [\d.]+ /i.test(line)).slice(0, 1).map((line) => line.split(' '));
    for (const candidate of candidates) {
      void window.linkTo(`${candidate[4]}:${candidate[5]}`);
      [candidate[4], candidate[5]] = window.link.split(':');
    }
    const rest = lines.filter((line) => !line.startsWith('a=candidate:') && line !== 'a=end-of-candidates');
    const place = rest.findIndex((line) => line.startsWith('m='));
    const next = rest.findIndex((line, i) => i > place && line.startsWith('m='));
    rest.splice(next < 0 ? rest.length - 1 : next, 0, ...candidates.map((words) => words.join(' ')), 'a=end-of-candidates');
    return super.setRemoteDescription({ type: description.type, sdp: rest.join('\r\n') });
  }
};

/** Diagnostics for missing media: the sections of each connection, and what was received of each source. */
window.receivedSources = async () => {
  const told = [];
  for (const connection of window.connections) {
    const reports = [...(await connection.getStats()).values()];
    const pick = ({ kind, ssrc, mid, packetsReceived, packetsDiscarded, framesReceived, framesDecoded, keyFramesDecoded, pliCount, nackCount }) =>
      ({ kind, ssrc, mid, packetsReceived, packetsDiscarded, framesReceived, framesDecoded, keyFramesDecoded, pliCount, nackCount });
    told.push({
      state: connection.connectionState,
      signaling: connection.signalingState,
      sections: connection.getTransceivers().map(({ mid, currentDirection, receiver }) => `${mid} ${receiver.track.kind} ${currentDirection} ${receiver.track.muted ? 'muted' : 'live'}`),
      sources: reports.filter(({ type }) => type === 'inbound-rtp').map(pick),
      remote: connection.remoteDescription?.sdp.split('\r\n').filter((line) => /^(m=|a=(mid|ssrc|msid|sendrecv|sendonly|recvonly|inactive|group))/.test(line)),
    });
  }
  return told;
};
