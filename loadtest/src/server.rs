//! The server under test, run as a process and measured from outside.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context, LoadError};

/// Server process that accepts the keys of `--dev`; killed on drop.
#[derive(Debug)]
pub struct Server {
    child: Child,
    http: SocketAddr,
    metrics: SocketAddr,
}

/// Kernel and server counters at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Time of the sample.
    pub at: Instant,
    /// CPU time of all threads of the server, including kernel work on their behalf.
    pub cpu: Duration,
    /// Video packets sent according to the server's metrics.
    pub video_sent: f64,
}

impl Server {
    /// Starts the binary on free ports and waits until the server answers HTTP.
    ///
    /// # Errors
    /// The server does not start, or does not answer within 20 s.
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

    /// Base URL of the server's WebSocket.
    pub fn url(&self) -> String {
        format!("ws://{}", self.http)
    }

    /// Reads the counters of this moment.
    ///
    /// # Errors
    /// The server has ended, or its metrics cannot be read.
    pub fn sample(&self) -> Result<Sample, LoadError> {
        let metrics = get(self.metrics, "/metrics")?;
        let video_sent = metric(&metrics, "anytime_packets_total", &["direction=\"out\"", "kind=\"video\""]);
        Ok(Sample { at: Instant::now(), cpu: process_cpu_time(self.child.id())?, video_sent })
    }

    /// Value of one of the server's metrics, summed over the series whose labels contain all of `labels`; 0 if there is
    /// none.
    ///
    /// # Errors
    /// The metrics cannot be read.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Result<f64, LoadError> {
        Ok(metric(&get(self.metrics, "/metrics")?, name, labels))
    }

    /// Resident memory of the server process, in bytes.
    ///
    /// # Errors
    /// The server has ended.
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
        // Errors are ignored, because the server may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of the calling thread.
///
/// # Errors
/// The kernel does not provide it.
pub fn thread_cpu_time() -> Result<Duration, LoadError> {
    schedstat(Path::new("/proc/thread-self/schedstat"))
}

/// CPU time of all current threads of a process.
fn process_cpu_time(pid: u32) -> Result<Duration, LoadError> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).context("list the server's threads")?;
    let mut sum = Duration::ZERO;
    for thread in threads.flatten() {
        // A thread that has just ended is not an error.
        sum += schedstat(&thread.path().join("schedstat")).unwrap_or_default();
    }
    Ok(sum)
}

/// Reads the first number of a `schedstat` file: nanoseconds spent on a core.
fn schedstat(path: &Path) -> Result<Duration, LoadError> {
    let text = fs::read_to_string(path).context("read schedstat")?;
    let nanos = text.split_whitespace().next().and_then(|word| word.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| LoadError::Server("schedstat is not a number".to_owned()))
}

/// Sends a GET request over a new connection. Returns the whole response, header included.
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

/// Timeout from process start to the first HTTP answer.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Timeout of connecting and of reading, per request.
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
