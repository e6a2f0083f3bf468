//! Order of a subscriber's transport-wide feedback messages. Only if two messages are consecutive is it certain that no
//! other message reported the packets between them.

/// Tracks the feedback packet count of the newest message; the 8-bit count wraps.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReportOrder {
    last: Option<u8>,
}

impl ReportOrder {
    /// Records a message with this count. Returns whether it directly follows the newest message so far. A reordered,
    /// older message changes nothing.
    pub fn follows(&mut self, count: u8) -> bool {
        let ahead = self.last.map(|last| count.wrapping_sub(last));
        if ahead.is_none_or(|ahead| (1..128).contains(&ahead)) {
            self.last = Some(count);
        }
        ahead == Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_comes_late_does_not_hide_that_two_follow_each_other() {
        let mut order = ReportOrder::default();
        let follows = [254, 255, 0, 254, 1, 3, 4].map(|count| order.follows(count));
        assert_eq!(follows, [false, true, true, false, true, false, true]);
    }
}
