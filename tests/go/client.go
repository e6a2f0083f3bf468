package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"sync"
	"time"

	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
)

const connectTimeout = 30 * time.Second

// client is one participant of the call.
type client struct {
	identity string
	out      *lines
	queue    chan command
	room     *lksdk.Room
	feedback feedback

	camera     []*looped
	microphone *looped
	screen     *lksdk.LocalTrackPublication

	mutex sync.Mutex
	// tracks that are received at present, by publisher and source, such as "ben camera".
	tracks map[string]*received
	// data that has arrived, by sender and topic.
	data map[string]*stream
}

type stream struct {
	pieces int
	bytes  int
	hash   hash.Hash
}

func newClient(identity string, out *lines) *client {
	c := &client{
		identity: identity,
		out:      out,
		queue:    make(chan command, 16),
		tracks:   map[string]*received{},
		data:     map[string]*stream{},
	}
	go func() {
		for asked := range c.queue {
			if ok, err := c.run(asked); err != nil {
				out.write(map[string]any{"id": asked.ID, "error": err.Error()})
			} else {
				out.write(map[string]any{"id": asked.ID, "ok": ok})
			}
		}
	}()
	return c
}

func (c *client) run(asked command) (any, error) {
	if c.room == nil && asked.Do != "join" {
		return nil, fmt.Errorf("%s before join", asked.Do)
	}
	switch asked.Do {
	case "join":
		return c.join(asked)
	case "publish":
		return nil, c.publish(asked)
	case "unpublish":
		return nil, c.unpublish()
	case "republish":
		return nil, c.republish()
	case "share":
		return nil, c.share(asked)
	case "unshare":
		return nil, c.room.LocalParticipant.UnpublishTrack(c.screen.SID())
	case "send":
		return c.send(asked)
	case "data":
		return c.received(asked)
	case "dump":
		return c.dump(asked)
	case "tracks":
		return c.counts(), nil
	case "quality":
		return nil, c.quality(asked)
	case "sid":
		return c.room.LocalParticipant.SID(), nil
	case "leave":
		c.room.Disconnect()
		return nil, nil
	}
	return nil, fmt.Errorf("unknown command %q", asked.Do)
}

func (c *client) join(asked command) (any, error) {
	c.mutex.Lock()
	clear(c.tracks)
	c.mutex.Unlock()
	options := []lksdk.ConnectOption{
		lksdk.WithConnectTimeout(connectTimeout),
		lksdk.WithInterceptors([]interceptor.Factory{&c.feedback}),
		lksdk.WithIncludeDefaultInterceptors(true),
	}
	if asked.Single {
		options = append(options, lksdk.WithSinglePeerConnection())
	}
	room, err := lksdk.ConnectToRoomWithToken(asked.URL, asked.Token, c.callbacks(), options...)
	if err != nil {
		return nil, err
	}
	c.room = room
	return map[string]any{"sid": room.LocalParticipant.SID()}, nil
}

func (c *client) note(what, who string) {
	c.out.write(map[string]any{"event": what, "as": c.identity, "who": who})
}

func (c *client) callbacks() *lksdk.RoomCallback {
	return &lksdk.RoomCallback{
		OnReconnecting:            func() { c.note("reconnecting", "") },
		OnReconnected:             func() { c.note("reconnected", "") },
		OnDisconnectedWithReason:  func(reason lksdk.DisconnectionReason) { c.note("disconnected", string(reason)) },
		OnParticipantConnected:    func(who *lksdk.RemoteParticipant) { c.note("joined", who.Identity()) },
		OnParticipantDisconnected: func(who *lksdk.RemoteParticipant) { c.note("left", who.Identity()) },
		ParticipantCallback: lksdk.ParticipantCallback{
			OnTrackSubscribed: func(track *webrtc.TrackRemote, publication *lksdk.RemoteTrackPublication, who *lksdk.RemoteParticipant) {
				name := who.Identity() + " " + sourceName(publication.Source())
				one := newReceived(track)
				one.ask = func() { c.askKeyFrame(track.SSRC()) }
				c.mutex.Lock()
				c.tracks[name] = one
				c.mutex.Unlock()
				c.note("subscribed", name)
				if err := widenReceiveBuffers(); err != nil {
					c.note("narrow sockets", err.Error())
				}
				go one.read(track)
			},
			OnTrackUnsubscribed: func(_ *webrtc.TrackRemote, publication *lksdk.RemoteTrackPublication, who *lksdk.RemoteParticipant) {
				c.note("unsubscribed", who.Identity()+" "+sourceName(publication.Source()))
			},
			OnTrackSubscriptionFailed: func(sid string, who *lksdk.RemoteParticipant) {
				c.note("failed", who.Identity()+" "+sid)
			},
			OnDataPacket: func(packet lksdk.DataPacket, params lksdk.DataReceiveParams) {
				if user := packet.ToProto().GetUser(); user != nil {
					c.take(params.SenderIdentity+" "+user.GetTopic(), user.Payload)
				}
			},
		},
	}
}

// askKeyFrame requests a key frame, as RemoteParticipant.WritePLI should, which does nothing with a single connection.
func (c *client) askKeyFrame(ssrc webrtc.SSRC) {
	connection := c.room.LocalParticipant.GetSubscriberPeerConnection()
	if connection == nil {
		connection = c.room.LocalParticipant.GetPublisherPeerConnection()
	}
	if connection != nil {
		_ = connection.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{SenderSSRC: uint32(ssrc), MediaSSRC: uint32(ssrc)}})
	}
}

// publish sends looped files: a camera of one or several layers, lowest first, and a microphone.
func (c *client) publish(asked command) error {
	if c.camera == nil {
		for i, path := range asked.Video {
			layer := -1
			if len(asked.Video) > 1 {
				layer = i
			}
			one, err := videoFrom(path, c.identity+"-camera", layer)
			if err != nil {
				return err
			}
			c.camera = append(c.camera, one)
		}
		if asked.Audio != "" {
			one, err := audioFrom(asked.Audio)
			if err != nil {
				return err
			}
			c.microphone = one
		}
	}
	if err := publishVideo(c.room, c.camera, livekit.TrackSource_CAMERA); err != nil {
		return fmt.Errorf("camera: %w", err)
	}
	if c.microphone == nil {
		return nil
	}
	options := &lksdk.TrackPublicationOptions{Name: "microphone", Source: livekit.TrackSource_MICROPHONE, DisableDTX: true}
	if _, err := c.room.LocalParticipant.PublishTrack(c.microphone.track, options); err != nil {
		return fmt.Errorf("microphone: %w", err)
	}
	return nil
}

func (c *client) unpublish() error {
	for _, publication := range c.room.LocalParticipant.TrackPublications() {
		if err := c.room.LocalParticipant.UnpublishTrack(publication.SID()); err != nil {
			return err
		}
	}
	return nil
}

// republish unpublishes the tracks and publishes the same tracks again.
func (c *client) republish() error {
	if err := c.unpublish(); err != nil {
		return err
	}
	return c.publish(command{})
}

func (c *client) share(asked command) error {
	if len(asked.Video) != 1 {
		return errors.New("a screen has one layer")
	}
	screen, err := videoFrom(asked.Video[0], "", -1)
	if err != nil {
		return err
	}
	options := &lksdk.TrackPublicationOptions{Name: "screen", Source: livekit.TrackSource_SCREEN_SHARE, VideoWidth: screen.width, VideoHeight: screen.height}
	c.screen, err = c.room.LocalParticipant.PublishTrack(screen.track, options)
	return err
}

// send sends random bytes in pieces and returns their hash.
func (c *client) send(asked command) (any, error) {
	sum := sha256.New()
	for range asked.Pieces {
		piece := make([]byte, asked.Size)
		_, _ = rand.Read(piece)
		sum.Write(piece)
		packet := &lksdk.UserDataPacket{Payload: piece, Topic: asked.Topic}
		if err := c.room.LocalParticipant.PublishDataPacket(packet, lksdk.WithDataPublishReliable(!asked.Lossy)); err != nil {
			return nil, err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (c *client) take(name string, payload []byte) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	one := c.data[name]
	if one == nil {
		one = &stream{hash: sha256.New()}
		c.data[name] = one
	}
	one.pieces++
	one.bytes += len(payload)
	one.hash.Write(payload)
}

func (c *client) received(asked command) (any, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	one := c.data[asked.From+" "+asked.Topic]
	if one == nil {
		return map[string]any{"pieces": 0}, nil
	}
	return map[string]any{"pieces": one.pieces, "bytes": one.bytes, "hash": hex.EncodeToString(one.hash.Sum(nil))}, nil
}

func (c *client) dump(asked command) (any, error) {
	c.mutex.Lock()
	one := c.tracks[asked.From+" "+asked.Source]
	c.mutex.Unlock()
	if one == nil {
		return 0, nil
	}
	return one.dump(asked.Path)
}

// counts returns the counters of every track that is or was received, and of the feedback sent to the server.
func (c *client) counts() any {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	tracks := map[string]any{}
	for name, one := range c.tracks {
		tracks[name] = one.counts()
	}
	return map[string]any{"tracks": tracks, "nacks": c.feedback.nacks.Load(), "asked": c.feedback.asked.Load(), "plis": c.feedback.plis.Load()}
}

// quality requests a layer of every track that From publishes; 0 is the lowest.
func (c *client) quality(asked command) error {
	found := false
	for _, who := range c.room.GetRemoteParticipants() {
		for _, publication := range who.TrackPublications() {
			remote, ok := publication.(*lksdk.RemoteTrackPublication)
			if !ok || who.Identity() != asked.From || publication.Kind() != lksdk.TrackKindVideo {
				continue
			}
			if err := remote.SetVideoQuality(livekit.VideoQuality(asked.Size)); err != nil {
				return err
			}
			found = true
		}
	}
	if !found {
		return fmt.Errorf("%s publishes no picture", asked.From)
	}
	return nil
}

func sourceName(source livekit.TrackSource) string {
	switch source {
	case livekit.TrackSource_CAMERA:
		return "camera"
	case livekit.TrackSource_MICROPHONE:
		return "microphone"
	case livekit.TrackSource_SCREEN_SHARE:
		return "screen_share"
	case livekit.TrackSource_SCREEN_SHARE_AUDIO:
		return "screen_share_audio"
	}
	return "unknown"
}
