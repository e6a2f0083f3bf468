//! The server under test: started, asked, and measured from outside.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context, LoadError};

/// A server process with keys of `--dev`, ended when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    http: SocketAddr,
    metrics: SocketAddr,
}

/// What the kernel and the server itself say at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// CPU time of all threads, the kernel's work on their behalf included.
    pub cpu: Duration,
    /// Video packets that the server says it sent.
    pub video_sent: f64,
}

impl Server {
    /// Starts the binary on free ports and waits until it answers.
    ///
    /// # Errors
    /// It does not start, or does not answer within 20 s.
    pub fn start(binary: &Path, workers: Option<u16>) -> Result<Self, LoadError> {
        let (http, metrics) = (free_port()?, free_port()?);
        let mut command = Command::new(binary);
        command.args(["serve", "--dev", "--udp-port", "0", "--port", &http.port().to_string()]);
        command.args(["--metrics-address", &metrics.to_string()]);
        if let Some(workers) = workers {
            command.args(["--workers", &workers.to_string()]);
        }
        command.env("RUST_LOG", "warn").stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().context("start the server")?;
        let mut server = Self { child, http, metrics };
        let begin = Instant::now();
        while get(http, "/").is_err() {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(LoadError::Server(format!("ended while starting: {status}")));
            }
            if begin.elapsed() > START_TIMEOUT {
                return Err(LoadError::Server(format!("does not answer at {http}")));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Where its WebSocket is.
    pub fn url(&self) -> String {
        format!("ws://{}", self.http)
    }

    /// What it costs and says at this moment.
    ///
    /// # Errors
    /// It is gone, or its metrics cannot be read.
    pub fn sample(&self) -> Result<Sample, LoadError> {
        let metrics = get(self.metrics, "/metrics")?;
        let video_sent = metric(&metrics, "anytime_packets_total", &["direction=\"out\"", "kind=\"video\""]);
        Ok(Sample { at: Instant::now(), cpu: process_cpu_time(self.child.id())?, video_sent })
    }

    /// One of its metrics, summed over labels that contain all of `labels`.
    ///
    /// # Errors
    /// Its metrics cannot be read.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Result<f64, LoadError> {
        Ok(metric(&get(self.metrics, "/metrics")?, name, labels))
    }

    /// Resident memory, in bytes.
    ///
    /// # Errors
    /// It is gone.
    pub fn resident_bytes(&self) -> Result<u64, LoadError> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).context("read status")?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib =
            line.and_then(|line| line.split_whitespace().nth(1)).and_then(|word| word.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| LoadError::Server("no VmRSS in its status".to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of the calling thread.
///
/// # Errors
/// The kernel does not tell.
pub fn thread_cpu_time() -> Result<Duration, LoadError> {
    schedstat(Path::new("/proc/thread-self/schedstat"))
}

/// CPU time of all threads that a process has now.
fn process_cpu_time(pid: u32) -> Result<Duration, LoadError> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).context("list the server's threads")?;
    let mut sum = Duration::ZERO;
    for thread in threads.flatten() {
        // A thread that has just ended is no error.
        sum += schedstat(&thread.path().join("schedstat")).unwrap_or_default();
    }
    Ok(sum)
}

/// The first number: nanoseconds on a core.
fn schedstat(path: &Path) -> Result<Duration, LoadError> {
    let text = fs::read_to_string(path).context("read schedstat")?;
    let nanos = text.split_whitespace().next().and_then(|word| word.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| LoadError::Server("schedstat is not a number".to_owned()))
}

/// A GET over a connection of its own.
fn get(address: SocketAddr, path: &str) -> Result<String, LoadError> {
    let mut stream =
        TcpStream::connect_timeout(&address, REQUEST_TIMEOUT).context("connect to the server")?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT)).context("limit the wait")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).context("ask the server")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the server's answer")?;
    if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(LoadError::Server(answer)) }
}

fn metric(text: &str, name: &str, labels: &[&str]) -> f64 {
    let lines = text.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    lines.filter_map(|line| line.rsplit(' ').next().and_then(|word| word.parse::<f64>().ok())).sum()
}

fn free_port() -> Result<SocketAddr, LoadError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    listener.local_addr().context("find a free port")
}

/// From start to the first answer.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// For one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_the_labels_that_match() {
        let text = "# HELP a_total x\na_total{kind=\"x\",way=\"in\"} 3\na_total{kind=\"y\",way=\"in\"} 4\n\
                    a_total{kind=\"x\",way=\"out\"} 8\na_total_more 100\nb 2.5\n";
        assert_eq!(metric(text, "a_total", &["way=\"in\""]), 7.0);
        assert_eq!(metric(text, "a_total", &["way=\"in\"", "kind=\"x\""]), 3.0);
        assert_eq!(metric(text, "b", &[]), 2.5);
        assert_eq!(metric(text, "c", &[]), 0.0);
    }

    #[test]
    fn cpu_time_advances_with_work() {
        let before = thread_cpu_time().expect("schedstat");
        let mut sum = 0_u64;
        while thread_cpu_time().expect("schedstat") - before < Duration::from_micros(200) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(process_cpu_time(std::process::id()).expect("schedstat") > Duration::ZERO);
    }
}
