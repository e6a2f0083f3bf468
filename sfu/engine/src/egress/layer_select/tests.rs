use super::*;
use crate::media_packet::test_packet;
use crate::units::test_epoch;

fn packet(layer: u8, key: bool) -> MediaPacket {
    let mut packet = test_packet(0, test_epoch());
    packet.layer = Layer(layer);
    packet.facts.key_frame = key;
    packet.facts.frame_start = true;
    packet
}

fn aim(select: &mut LayerSelect, layer: u8) {
    select.aim(Some(Target::whole(Layer(layer))));
}

#[test]
fn the_first_picture_comes_from_any_layer_up_to_the_target_and_then_climbs() {
    let mut select = LayerSelect::new(MediaKind::Video);
    aim(&mut select, 2);
    assert_eq!(select.wants_key_frame(), Some(Layer(2)));
    assert_eq!(select.on_packet(&packet(0, false)).select, Select::Skip);
    assert_eq!(select.on_packet(&packet(0, true)).select, Select::Switch);
    assert_eq!(select.on_packet(&packet(0, false)).select, Select::Forward);
    assert_eq!(select.wants_key_frame(), Some(Layer(2)), "still");
    assert_eq!(select.on_packet(&packet(2, false)).select, Select::Skip);
    assert_eq!(select.on_packet(&packet(2, true)).select, Select::Switch);
    assert_eq!(select.on_packet(&packet(0, true)).select, Select::Skip, "no way back");
    assert_eq!(select.wants_key_frame(), None);
}

#[test]
fn a_switch_down_keeps_the_old_layer_until_the_new_one_can_be_decoded() {
    let mut select = LayerSelect::new(MediaKind::Video);
    aim(&mut select, 2);
    select.on_packet(&packet(2, true));
    aim(&mut select, 0);
    assert_eq!(select.on_packet(&packet(0, false)).select, Select::Skip);
    assert_eq!(select.on_packet(&packet(2, false)).select, Select::Forward);
    assert_eq!(select.on_packet(&packet(1, true)).select, Select::Switch, "a step on the way");
    assert_eq!(select.on_packet(&packet(0, true)).select, Select::Switch);
    assert_eq!(select.current(), Some(Layer(0)));
}

#[test]
fn a_pause_sends_nothing_and_resumes_at_a_key_frame() {
    let mut select = LayerSelect::new(MediaKind::Video);
    aim(&mut select, 0);
    select.on_packet(&packet(0, true));
    select.aim(None);
    assert_eq!(select.on_packet(&packet(0, true)).select, Select::Skip);
    aim(&mut select, 0);
    assert_eq!(select.on_packet(&packet(0, false)).select, Select::Skip);
    assert_eq!(select.on_packet(&packet(0, true)).select, Select::Switch);
}

#[test]
fn sound_begins_with_its_first_packet() {
    let mut select = LayerSelect::new(MediaKind::Audio);
    aim(&mut select, 0);
    assert_eq!(select.wants_key_frame(), None);
    assert_eq!(select.on_packet(&packet(0, false)).select, Select::Switch);
    assert_eq!(select.on_packet(&packet(0, false)).select, Select::Forward);
}

#[test]
fn a_layer_may_be_left_before_the_next_is_there() {
    let mut select = LayerSelect::new(MediaKind::Video);
    aim(&mut select, 2);
    select.on_packet(&packet(2, true));
    assert_eq!(select.stepping_down(), None);
    aim(&mut select, 0);
    assert_eq!(select.stepping_down(), Some(Layer(2)));
    select.restart();
    assert_eq!((select.stepping_down(), select.wants_key_frame()), (None, Some(Layer(0))));
    assert_eq!(select.on_packet(&packet(2, false)).select, Select::Skip);
    assert_eq!(select.on_packet(&packet(0, true)).select, Select::Switch);
}
