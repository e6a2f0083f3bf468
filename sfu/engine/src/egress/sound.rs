//! Resumes audio that was not sent for a while.

use super::Egress;

impl Egress {
    /// Makes the next packet of the subscription the first after a pause: its numbers continue from the last one sent.
    pub fn begin_sound(&mut self, slot: usize) {
        let Some(subscription) = self.subscriptions.get_mut(slot) else { return };
        let target = subscription.select.target();
        subscription.select.aim(None);
        subscription.select.aim(target);
    }
}
