//! Sound that was not sent for a while, and is again.

use super::Egress;

impl Egress {
    /// The next packet of the subscription is the first after a pause: its numbers go on from the last one sent.
    pub fn begin_sound(&mut self, slot: usize) {
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return };
        let target = subscription.select.target();
        subscription.select.aim(None);
        subscription.select.aim(target);
    }
}
