//! Tests of the binary's command line, output and shutdown.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

use signaling::config::{Config, ServeFlags};
use signaling::token::keys::KeyStore;
use signaling::token::{Clock, TokenLimits, verify};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn anytime(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anytime"));
    command.args(arguments);
    for name in [
        "ANYTIME_KEYS",
        "LIVEKIT_KEYS",
        "ANYTIME_CONFIG",
        "LIVEKIT_CONFIG",
        "ANYTIME_PORT",
        "UDP_PORT",
        "NODE_IP",
        "RUST_LOG",
    ] {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    anytime(arguments).output().unwrap()
}

fn error_of(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn token_create_makes_what_the_server_takes() {
    let keys =
        KeyStore::with_any_secret(&[("devkey".into(), "secret".into()), ("k".into(), "s".into())]).unwrap();
    let now = Clock::system().now().unix;
    let read = |output: Output| {
        let token = String::from_utf8(output.stdout).unwrap();
        verify::verify_join(&keys, &TokenLimits::default(), token.trim(), now).unwrap()
    };
    let who = ["token", "create", "--identity", "ann", "--room", "r"];
    let grants =
        read(run(&[&who[..], &["--dev", "--valid-for", "10m", "--name", "Ann", "--no-publish"]].concat()));
    assert_eq!((grants.identity.as_str(), grants.room(), grants.name.as_str()), ("ann", "r", "Ann"));
    assert!(!grants.can_publish() && grants.can_subscribe());
    assert!((now + 598..=now + 660).contains(&grants.expires_at));
    let more = ["--key", "k", "--secret", "s", "--source", "microphone", "--hidden", "--attribute", "a=b=c"];
    let grants = read(run(&[&who[..], &more].concat()));
    assert_eq!(grants.video.can_publish_sources, ["microphone"]);
    assert_eq!(grants.attributes["a"], "b=c");
    assert!(grants.hidden());
    let grants = read(anytime(&who).env("ANYTIME_KEYS", "k: s").output().unwrap());
    assert_eq!(grants.identity, "ann");

    assert!(error_of(&who).contains("--key"));
    assert!(error_of(&["token", "create", "--dev", "--identity", "", "--room", "r"]).contains("--identity"));
    assert!(error_of(&["token", "create", "--dev", "--room", "r"]).contains("--identity"));
    assert!(error_of(&[&who[..], &["--dev", "--source", "teleport"]].concat()).contains("teleport"));
}

#[test]
fn a_bad_start_is_refused_in_plain_words() {
    for (arguments, words) in [
        (&["serve"][..], "no API key"),
        (&["serve", "--keys", "mine: short"], "`mine`"),
        (&["serve", "--dev", "--bind", "0.0.0.0"], "loopback"),
        (&["serve", "--dev", "--config-body", "rtc: {udp_prot: 1}"], "`rtc.udp_port`"),
        (&["serve", "--dev", "--config", "/does/not/exist"], "/does/not/exist"),
        (&["serve", "--dev", "--config-body", "logging: {level: 'x=y=z'}"], "`logging.level`"),
    ] {
        let error = error_of(arguments);
        assert!(error.starts_with("anytime: ") && error.contains(words), "{arguments:?}: {error}");
    }
}

#[test]
fn the_sample_configuration_is_the_defaults() {
    let sample = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/anytime.yaml");
    let load = |flags: ServeFlags| {
        let keys = Some(format!("k: {}", "s".repeat(32)));
        let loaded =
            Config::load(&ServeFlags { keys, ..flags }, |_| None).unwrap_or_else(|error| panic!("{error}"));
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        serde_norway::to_string(&loaded.config).unwrap()
    };
    let from_sample = load(ServeFlags { config: Some(sample), ..ServeFlags::default() });
    assert_eq!(from_sample, load(ServeFlags::default()));
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed must not leave a server behind.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

async fn get(url: &str) -> String {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_development_server_says_where_it_is_and_stops_when_asked() {
    let arguments = [
        "serve",
        "--dev",
        "--port",
        "0",
        "--udp-port",
        "0",
        "--workers",
        "1",
        "--metrics-address",
        "127.0.0.1:0",
    ];
    let mut server =
        Running(anytime(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut output = BufReader::new(server.0.stdout.take().unwrap());
    let mut addresses = Vec::new();
    let mut text = String::new();
    while !text.contains("Not for production") {
        let mut line = String::new();
        assert!(output.read_line(&mut line).unwrap() > 0, "{text}");
        addresses.extend(line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned));
        text.push_str(&line);
    }
    assert!(text.contains("DEVELOPMENT MODE") && text.contains("devkey"), "{text}");
    let [page, metrics] = &addresses[..] else { panic!("{text}") };
    assert!(get(page).await.contains("text/html"));
    assert!(get(&format!("{page}healthz")).await.ends_with("ok\n"));
    let scraped = get(metrics).await;
    assert!(
        scraped.contains("anytime_http_connections ") && scraped.contains("anytime_sessions "),
        "{scraped}"
    );

    let stopped = Command::new("kill").args(["-TERM", &server.0.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(server.0.wait().unwrap().success(), "{rest}");
    assert!(rest.ends_with("Stopped.\n"), "{rest}");
    assert!(TcpStream::connect(page.trim_start_matches("http://").trim_end_matches('/')).await.is_err());
}
