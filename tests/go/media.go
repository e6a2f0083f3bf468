package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
	"github.com/pion/webrtc/v4/pkg/media/oggreader"
)

// looped is a file that is played repeatedly, as one track or one layer of a track.
type looped struct {
	lksdk.BaseSampleProvider
	track         *lksdk.LocalTrack
	width, height int
	samples       []media.Sample
	next          int
}

func (l *looped) NextSample(context.Context) (media.Sample, error) {
	sample := l.samples[l.next]
	l.next = (l.next + 1) % len(l.samples)
	return sample, nil
}

// Close is called when a track is unpublished. It does nothing, so the file continues when the track is published
// again.
func (l *looped) Close() error { return nil }

// audio is a looped file that also reports an audio level.
type audio struct{ *looped }

func (a audio) CurrentAudioLevel() uint8 { return 20 }

var qualities = []livekit.VideoQuality{livekit.VideoQuality_LOW, livekit.VideoQuality_MEDIUM, livekit.VideoQuality_HIGH}

// videoFrom reads VP8 from an IVF file. A layer below 0 means that there is only one layer.
func videoFrom(path, id string, layer int) (*looped, error) {
	l, err := readIVF(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var options []lksdk.LocalTrackOptions
	if layer >= 0 {
		options = append(options, lksdk.WithSimulcast(id, &livekit.VideoLayer{
			Quality: qualities[layer], Width: uint32(l.width), Height: uint32(l.height), Bitrate: l.bitrate(),
		}))
	}
	l.track, err = lksdk.NewLocalTrack(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90_000}, options...)
	if err != nil {
		return nil, err
	}
	return l, l.track.StartWrite(l, nil)
}

// audioFrom reads Opus from an Ogg file with one packet per page.
func audioFrom(path string) (*looped, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	reader, _, err := oggreader.NewWith(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l := &looped{}
	for {
		page, _, err := reader.ParseNextPage()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(page) >= 8 && string(page[:8]) == "OpusTags" {
			continue
		}
		l.samples = append(l.samples, media.Sample{Data: page, Duration: 20 * time.Millisecond})
	}
	if len(l.samples) == 0 {
		return nil, fmt.Errorf("%s: no sound in it", path)
	}
	l.track, err = lksdk.NewLocalTrack(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: soundRate, Channels: 2})
	if err != nil {
		return nil, err
	}
	return l, l.track.StartWrite(audio{l}, nil)
}

func readIVF(path string) (*looped, error) {
	bytes, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(bytes) < 32 || string(bytes[:4]) != "DKIF" || string(bytes[8:12]) != "VP80" {
		return nil, errors.New("not VP8 in IVF")
	}
	little := binary.LittleEndian
	l := &looped{width: int(little.Uint16(bytes[12:])), height: int(little.Uint16(bytes[14:]))}
	rate, scale := little.Uint32(bytes[16:]), little.Uint32(bytes[20:])
	if rate == 0 || scale == 0 {
		return nil, errors.New("no frame rate in the IVF header")
	}
	duration := time.Second * time.Duration(scale) / time.Duration(rate)
	for rest := bytes[32:]; len(rest) >= 12; {
		size := int(little.Uint32(rest))
		if len(rest) < 12+size {
			return nil, errors.New("cut short")
		}
		l.samples = append(l.samples, media.Sample{Data: rest[12 : 12+size], Duration: duration})
		rest = rest[12+size:]
	}
	if len(l.samples) == 0 {
		return nil, errors.New("no frames in it")
	}
	return l, nil
}

// bitrate is the bitrate of the file in bits per second.
func (l *looped) bitrate() uint32 {
	var bytes, seconds float64
	for _, sample := range l.samples {
		bytes += float64(len(sample.Data))
		seconds += sample.Duration.Seconds()
	}
	return uint32(bytes * 8 / seconds)
}

func publishVideo(room *lksdk.Room, layers []*looped, source livekit.TrackSource) error {
	if len(layers) == 0 {
		return nil
	}
	top := layers[len(layers)-1]
	options := &lksdk.TrackPublicationOptions{Name: "camera", Source: source, VideoWidth: top.width, VideoHeight: top.height}
	var err error
	if len(layers) == 1 {
		_, err = room.LocalParticipant.PublishTrack(top.track, options)
		return err
	}
	var tracks []*lksdk.LocalTrack
	for _, layer := range layers {
		tracks = append(tracks, layer.track)
	}
	_, err = room.LocalParticipant.PublishSimulcastTrack(tracks, options)
	return err
}
