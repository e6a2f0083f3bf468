// The connections of a page, as tests change them; loaded before the client. Statistics are taken from the connections
// themselves, not from what the client says.

window.connections = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...args) {
    super(...args);
    window.connections.push(this);
  }
  // The client puts VP9 and AV1 into one scalable stream; others of its kind send several encodings.
  addTransceiver(track, init) {
    const encodings = track.kind === 'video' && init?.sendEncodings && window.videoEncodings;
    return super.addTransceiver(track, encodings ? { ...init, sendEncodings: encodings } : init);
  }

  // A test that wants this page to lack a codec sets `lacking` to its MIME type.
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

  // A test that wants media to be here before the answer that announces it sets `answersHeldBack` to milliseconds.
  //
  // A test that wants this page behind a narrow link sets `link` to its address, and `linkTo` to what is told where
  // the link is to lead. No pause: the client counts on the order of its calls.
  setRemoteDescription(description) {
    if (window.answersHeldBack && description?.type === 'answer') {
      const held = new Promise((resolve) => setTimeout(resolve, window.answersHeldBack));
      return held.then(() => super.setRemoteDescription(description));
    }
    if (!window.link || !description?.sdp) return super.setRemoteDescription(description);
    const lines = description.sdp.split('\r\n');
    // One is enough: the server's addresses lead to the same socket.
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

/** For somebody who looks for what is missing: each connection's sections, and what came of each source. */
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
