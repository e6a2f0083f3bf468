//! Participants that fill a room. Each publishes a camera and a microphone and receives nothing.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::client::{Role, State};
use crate::drive::Drive;
use crate::error::LoadError;

/// Joins `people` participants to `room`, prints `{"joined":n}` when they begin to send, and runs until standard input
/// ends.
///
/// # Errors
/// A participant fails to join, or its session ends.
pub fn run(url: &str, room: &str, people: usize, frame: &[u8], fps: u32) -> Result<(), LoadError> {
    if frame.len() > LARGEST_FRAME {
        let what = format!("a frame of {} bytes does not fit into one packet", frame.len());
        return Err(LoadError::Transport { who: room.to_owned(), what });
    }
    let role = Role::Call { frame: Arc::from(frame), fps };
    let mut drive = Drive::new(url.to_owned())?;
    for number in 0..people {
        drive.join(room, &format!("person-{number}"), &role)?;
        if number % JOINS_AT_ONCE == 0 {
            drive.run_for(Duration::from_millis(20))?;
        }
    }
    drive.run_until("transports", people, SETUP, |client| client.state() == State::Connected)?;
    (0..people).for_each(|number| drive.start(number));
    println!("{{\"joined\":{people}}}");
    let ended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ended);
    thread::spawn(move || {
        // The content of standard input is ignored; its end, or an error, ends the run.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        seen.store(true, Ordering::Relaxed);
    });
    while !ended.load(Ordering::Relaxed) {
        drive.run_for(Duration::from_millis(200))?;
    }
    Ok(())
}

/// Payload of one packet, minus the payload descriptor and the bytes that the server adds.
const LARGEST_FRAME: usize = 1_100;
const JOINS_AT_ONCE: usize = 5;
const SETUP: Duration = Duration::from_secs(60);
