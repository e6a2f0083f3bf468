package main

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
	"github.com/pion/webrtc/v4/pkg/media/ivfwriter"
	"github.com/pion/webrtc/v4/pkg/media/oggwriter"
)

const (
	// Number of packets stored per track for later inspection: about ten seconds.
	kept      = 512
	soundRate = 48_000
)

// received is a track of another participant: its counters and its newest packets.
type received struct {
	video bool
	// ask requests a key frame.
	ask func()

	mutex sync.Mutex
	last  []numbered
	// Arrival times of the first packet and of the newest.
	began, newest time.Time
	bytes         int
	payload       int
	packets       int
	padding       int
	duplicates    int
	late          int
	frames        int
	first, high   int64
	seen          map[int64]struct{}
	width, height int
}

type numbered struct {
	// Sequence number extended beyond 16 bits.
	number int64
	*rtp.Packet
}

func newReceived(track *webrtc.TrackRemote) *received {
	return &received{video: track.Kind() == webrtc.RTPCodecTypeVideo, seen: map[int64]struct{}{}}
}

func (r *received) read(track *webrtc.TrackRemote) {
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		r.take(packet)
	}
}

func (r *received) take(packet *rtp.Packet) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.newest = time.Now()
	number := int64(packet.SequenceNumber)
	if len(r.seen) == 0 {
		r.began, r.first, r.high = r.newest, number, number
	} else {
		number = r.high + int64(int16(packet.SequenceNumber-uint16(r.high)))
	}
	if _, known := r.seen[number]; known {
		r.duplicates++
		return
	}
	r.seen[number] = struct{}{}
	if number < r.high {
		r.late++
	}
	r.first, r.high = min(r.first, number), max(r.high, number)
	r.packets++
	r.bytes += packet.MarshalSize()
	r.payload += len(packet.Payload)
	r.last = append(r.last, numbered{number, packet})
	if len(r.last) > kept {
		r.last = r.last[1:]
	}
	if len(packet.Payload) == 0 {
		r.padding++
		return
	}
	if packet.Marker || !r.video {
		r.frames++
	}
	if !r.video {
		return
	}
	if width, height, ok := keyFrame(packet); ok {
		r.width, r.height = width, height
	}
}

// keyFrame returns the frame size if the packet is the first of a key frame, and whether it is.
func keyFrame(packet *rtp.Packet) (width, height int, ok bool) {
	var vp8 codecs.VP8Packet
	frame, err := vp8.Unmarshal(packet.Payload)
	if err != nil || vp8.S != 1 || vp8.PID != 0 || len(frame) < 10 || frame[0]&1 != 0 {
		return 0, 0, false
	}
	return int(frame[6]) | int(frame[7]&0x3f)<<8, int(frame[8]) | int(frame[9]&0x3f)<<8, true
}

// missing is the number of sequence numbers between the first and the newest that never arrived.
func (r *received) missing() int {
	if len(r.seen) == 0 {
		return 0
	}
	return int(r.high-r.first) + 1 - len(r.seen)
}

func (r *received) counts() any {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return map[string]any{
		"packets": r.packets, "bytes": r.bytes, "payload": r.payload, "frames": r.frames, "padding": r.padding, "duplicates": r.duplicates,
		"late": r.late, "missing": r.missing(), "width": r.width, "height": r.height,
		"began": r.began.UnixMilli(), "newest": r.newest.UnixMilli(),
	}
}

// dump writes the newest packets to a file for a decoder: those after the last gap, for video from a key frame on. It
// returns the number of packets in the file. If they contain no key frame, it requests one, which nothing else here
// does.
func (r *received) dump(path string) (int, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	slices.SortFunc(r.last, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	begin := 0
	for i := 1; i < len(r.last); i++ {
		if r.last[i].number != r.last[i-1].number+1 {
			begin = i
		}
	}
	writer, err := r.writer(path)
	if err != nil {
		return 0, err
	}
	decodable := !r.video
	for _, packet := range r.last[begin:] {
		if len(packet.Payload) == 0 {
			continue
		}
		_, _, key := keyFrame(packet.Packet)
		decodable = decodable || key
		if err := writer.WriteRTP(packet.Packet); err != nil {
			return 0, err
		}
	}
	if !decodable {
		r.ask()
	}
	return len(r.last) - begin, writer.Close()
}

func (r *received) writer(path string) (media.Writer, error) {
	if r.video {
		return ivfwriter.New(path, ivfwriter.WithCodec(webrtc.MimeTypeVP8))
	}
	return oggwriter.New(path, soundRate, 2)
}

// feedback counts the feedback that a participant sends to the server. It is the first of the interceptors, so that it
// sees what the others write.
type feedback struct {
	interceptor.NoOp
	// NACK messages, packets requested by them, and key frame requests (PLI or FIR).
	nacks, asked, plis atomic.Int64
}

func (f *feedback) NewInterceptor(string) (interceptor.Interceptor, error) { return f, nil }

func (f *feedback) BindRTCPWriter(writer interceptor.RTCPWriter) interceptor.RTCPWriter {
	return interceptor.RTCPWriterFunc(func(packets []rtcp.Packet, attributes interceptor.Attributes) (int, error) {
		for _, packet := range packets {
			switch packet := packet.(type) {
			case *rtcp.TransportLayerNack:
				f.nacks.Add(1)
				for _, pair := range packet.Nacks {
					f.asked.Add(int64(len(pair.PacketList())))
				}
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				f.plis.Add(1)
			}
		}
		return writer.Write(packets, attributes)
	})
}
