//! Model of a loss-based bulk flow: slow start, then Reno or Cubic, with selective acknowledgements.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    Reno,
    Cubic,
}

#[derive(Debug)]
pub struct Tcp {
    growth: Growth,
    window: f64,
    threshold: f64,
    next: u64,
    /// Unacknowledged segments: number and send time.
    out: BTreeMap<u64, u64>,
    recovery_until: u64,
    /// Segments still to be delivered.
    pub left: u64,
    rtt: f64,
    last_ack: u64,
    highest_window: f64,
    reduced: u64,
}

pub const SEGMENT: usize = 1448 + 52;

impl Tcp {
    pub fn new(growth: Growth, bytes: Option<u64>) -> Self {
        Self {
            growth,
            window: 10.0,
            threshold: 1e9,
            next: 0,
            out: BTreeMap::new(),
            recovery_until: 0,
            left: bytes.map_or(u64::MAX, |bytes| bytes.div_ceil(1448)),
            rtt: 0.2,
            last_ack: 0,
            highest_window: 0.0,
            reduced: 0,
        }
    }

    /// Number of the segment to send now; `None` if the window is full or all data was sent.
    pub fn send(&mut self, now: u64) -> Option<u64> {
        if self.out.len() as f64 >= self.window || self.out.len() as u64 >= self.left {
            return None;
        }
        if self.out.is_empty() {
            self.last_ack = self.last_ack.max(now);
        }
        let number = self.next;
        self.next += 1;
        self.out.insert(number, now);
        Some(number)
    }

    pub fn on_ack(&mut self, now: u64, number: u64) {
        let Some(sent) = self.out.remove(&number) else { return };
        self.left = self.left.saturating_sub(1);
        self.last_ack = now;
        let rtt = (now - sent) as f64 / 1e6;
        self.rtt += (rtt - self.rtt) / 8.0;
        let mut lost = false;
        while let Some((&oldest, _)) = self.out.first_key_value() {
            if oldest + 3 >= number {
                break;
            }
            self.out.remove(&oldest);
            lost |= oldest >= self.recovery_until;
        }
        if lost {
            self.reduce(now, 0.5);
        } else if self.window < self.threshold {
            self.window += 1.0;
        } else {
            self.grow(now);
        }
    }

    fn grow(&mut self, now: u64) {
        let reno = self.window + 1.0 / self.window;
        self.window = match self.growth {
            Growth::Reno => reno,
            Growth::Cubic => {
                let time = (now - self.reduced) as f64 / 1e6;
                let origin = (self.highest_window * 0.3 / 0.4).cbrt();
                let cubic = 0.4 * (time - origin).powi(3) + self.highest_window;
                if cubic > self.window {
                    self.window + (cubic - self.window).min(self.window) / self.window
                } else {
                    self.window + 0.01 / self.window
                }
                .max(reno.min(self.window + 0.5 / self.window))
            }
        };
    }

    fn reduce(&mut self, now: u64, _: f64) {
        let share = if self.growth == Growth::Reno { 0.5 } else { 0.7 };
        self.highest_window = self.window;
        self.reduced = now;
        self.window = (self.window * share).max(2.0);
        self.threshold = self.window;
        self.recovery_until = self.next;
    }

    /// Handles the retransmission timeout.
    pub fn on_timer(&mut self, now: u64) {
        let timeout = ((self.rtt * 2.0).max(1.0) * 1e6) as u64;
        if !self.out.is_empty() && now > self.last_ack + timeout {
            self.reduce(now, 0.5);
            self.window = 2.0;
            self.out.clear();
            self.last_ack = now;
        }
    }
}
