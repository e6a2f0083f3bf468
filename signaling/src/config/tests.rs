use super::*;

const GOOD_KEYS: &str = "keys: {a: 0123456789abcdef0123456789abcdef}\n";

fn load(yaml: &str) -> Result<Loaded, ConfigError> {
    let keys = if yaml.contains("keys:") { "" } else { GOOD_KEYS };
    let flags = ServeFlags { config_body: Some(format!("{keys}{yaml}")), ..ServeFlags::default() };
    Config::load(&flags, |_| None)
}

fn refused(yaml: &str) -> String {
    match load(yaml) {
        Ok(_) => panic!("taken: {yaml}"),
        Err(error) => error.to_string(),
    }
}

fn error_of(result: Result<Loaded, ConfigError>) -> ConfigError {
    result.err().expect("refused")
}

#[test]
fn defaults_are_those_of_the_ecosystem() {
    let config = load("").unwrap().config;
    assert_eq!((config.port, config.rtc.udp_port, config.metrics_address().port()), (7880, 7882, 6789));
    assert!(config.metrics_address().ip().is_loopback());
    assert!(config.listen_ips().iter().all(IpAddr::is_unspecified));
    assert_eq!((config.room.empty_timeout, config.room.departure_timeout), (300, 20));
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let cases = [
        ("prot: 1", "prot", "port"),
        ("rtc: {udp_prot: 1}", "rtc.udp_prot", "rtc.udp_port"),
        ("udp_port: 1", "udp_port", "rtc.udp_port"),
        ("room: {auto_crate: true}", "room.auto_crate", "room.auto_create"),
        (
            "identity_provider: {issuer: x, audiance: y}",
            "identity_provider.audiance",
            "identity_provider.audience",
        ),
        (
            "identity_provider: {authorization: {uri: x}}",
            "identity_provider.authorization.uri",
            "identity_provider.authorization.url",
        ),
        ("Port: 1", "Port", "port"),
        ("rtc: {send_trains: 8}", "rtc.send_trains", "rtc.send_train"),
        ("limit: {publish_tracks: 8}", "limit.publish_tracks", "limit.published_tracks"),
    ];
    for (yaml, path, nearest) in cases {
        let error = refused(yaml);
        assert!(error.contains(&format!("`{path}`")) && error.contains(&format!("`{nearest}`")), "{error}");
    }
}

#[test]
fn known_keys_without_effect_are_warned_about() {
    let loaded =
        load("turn: {enabled: true, domain: x}\nrtc: {tcp_port: 7881, udp_port: 9}\nredis: {}").unwrap();
    assert_eq!(loaded.config.rtc.udp_port, 9);
    let keys = ["`turn`", "`rtc.tcp_port`", "`redis`"];
    assert_eq!(loaded.warnings.len(), keys.len());
    assert!(keys.iter().all(|key| loaded.warnings.iter().any(|warning| warning.contains(key))));
}

#[test]
fn a_wrong_value_names_its_key() {
    for (yaml, key) in [
        ("port: seven", "port"),
        ("port: 70000", "port"),
        ("rtc: {udp_port: -1}", "rtc.udp_port"),
        ("keys: {a: [1]}", "keys"),
        ("rtc: {workers: 1000}", "rtc.workers"),
        ("rtc: {node_ip: 0.0.0.0}", "rtc.node_ip"),
        ("bind_addresses: [everywhere]", "bind_addresses"),
        ("limit: {header_timeout: soon}", "limit.header_timeout"),
        ("limit: {header_timeout: 0}", "limit.header_timeout"),
        ("limit: {connections: 0}", "limit.connections"),
        ("token_endpoint: {valid_for: 0s}", "token_endpoint.valid_for"),
        ("token_endpoint: {accept_from_request: [identity]}", "token_endpoint.accept_from_request"),
        ("server_url: example.com", "server_url"),
        ("room: [1]", "room"),
        ("rtc: {send_train: 65}", "rtc.send_train"),
        ("rtc: {send_train: 0}", "rtc.send_train"),
        ("rtc: {members_at_home: 0}", "rtc.members_at_home"),
        ("rtc: {receive_buffer_bytes: 100}", "rtc.receive_buffer_bytes"),
        ("rtc: {send_buffer_bytes: big}", "rtc.send_buffer_bytes"),
        ("limit: {published_tracks: 0}", "limit.published_tracks"),
        ("limit: {pending_tracks: 65}", "limit.pending_tracks"),
    ] {
        let error = refused(yaml);
        assert!(error.contains(key), "{yaml}: {error}");
    }
    assert!(refused("a: [").starts_with("configuration:"));
    assert!(refused("port: 1\nport: 2").contains("port"));
}

#[test]
fn values_of_several_forms_are_read() {
    let config =
        load("rtc: {node_ip: 192.0.2.1}\nidentity_provider: {audience: a}\nlimit: {header_timeout: 2s}");
    let config = config.unwrap().config;
    assert_eq!(config.rtc.node_ip, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(config.identity_provider.audience, ["a"]);
    assert_eq!(config.limit.header_timeout, HumanDuration::from_secs(2));
    let config = load("rtc: {node_ip: [192.0.2.1, '2001:db8::1']}\nidentity_provider: {audience: [a, b]}");
    let config = config.unwrap().config;
    assert_eq!((config.rtc.node_ip.len(), config.identity_provider.audience.len()), (2, 2));
}

#[test]
fn keys_must_be_there_and_strong() {
    let none = Config::load(&ServeFlags::default(), |_| None);
    assert!(matches!(error_of(none), ConfigError::Keys(KeyError::None)));
    let flags = ServeFlags { keys: Some("mine: short".into()), ..ServeFlags::default() };
    let error = error_of(Config::load(&flags, |_| None));
    assert!(error.to_string().contains("`mine`"), "{error}");
}

#[test]
fn flags_win_over_environment_over_file() {
    let strong = |letter: char| letter.to_string().repeat(32);
    let flags = ServeFlags {
        config_body: Some(format!(
            "port: 1\nrtc: {{udp_port: 1}}\nkeys: {{f: {}, x: {}}}",
            strong('f'),
            strong('f')
        )),
        keys: Some(format!("x: {}", strong('c'))),
        port: Some(3),
        ..ServeFlags::default()
    };
    let env = |name: &str| match name {
        "ANYTIME_PORT" | "UDP_PORT" => Some("2".to_owned()),
        "NODE_IP" => Some("192.0.2.1, 2001:db8::1".to_owned()),
        "RUST_LOG" => Some("debug,rtc_dtls=warn".to_owned()),
        _ => None,
    };
    let config = Config::load(&flags, env).unwrap().config;
    assert_eq!((config.port, config.rtc.udp_port, config.rtc.node_ip.len()), (3, 2, 2));
    assert_eq!(config.logging.level, "debug,rtc_dtls=warn");
    assert_eq!(config.keys.0, [("x".to_owned(), strong('c')), ("f".to_owned(), strong('f'))]);
    let error = error_of(Config::load(&flags, |name| (name == "UDP_PORT").then(|| "many".to_owned())));
    assert!(error.to_string().contains("UDP_PORT"));
}

#[test]
fn the_node_s_knobs_come_from_file_and_environment() {
    let yaml = "rtc: {workers: 1, members_at_home: 2, send_train: 3, receive_buffer_bytes: 5000, \
                send_buffer_bytes: 6000}\nlimit: {published_tracks: 7, pending_tracks: 8, loudest_tracks: 9, \
                media_sections: 10}";
    let knobs = |config: &Config| {
        let (rtc, limit) = (&config.rtc, &config.limit);
        [
            ("ANYTIME_WORKERS", rtc.workers),
            ("ANYTIME_MEMBERS_AT_HOME", rtc.members_at_home),
            ("ANYTIME_SEND_TRAIN", rtc.send_train),
            ("ANYTIME_RECEIVE_BUFFER_BYTES", rtc.receive_buffer_bytes),
            ("ANYTIME_SEND_BUFFER_BYTES", rtc.send_buffer_bytes),
            ("ANYTIME_PUBLISHED_TRACKS", limit.published_tracks),
            ("ANYTIME_PENDING_TRACKS", limit.pending_tracks),
            ("ANYTIME_LOUDEST_TRACKS", limit.loudest_tracks),
            ("ANYTIME_MEDIA_SECTIONS", limit.media_sections),
        ]
    };
    let config = load(yaml).unwrap().config;
    assert_eq!(knobs(&config).map(|(_, value)| value), [1, 2, 3, 5000, 6000, 7, 8, 9, 10]);
    let flags = ServeFlags { config_body: Some(format!("{GOOD_KEYS}{yaml}")), ..ServeFlags::default() };
    for (place, (name, value)) in knobs(&config).into_iter().enumerate() {
        let env = |asked: &str| (asked == name).then(|| (value + 1).to_string());
        let changed = knobs(&Config::load(&flags, env).unwrap().config);
        assert_eq!(changed[place].1, value + 1, "{name}");
        let error = error_of(Config::load(&flags, |asked| (asked == name).then(|| "-1".to_owned())));
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn both_names_of_the_environment_work() {
    for name in ["ANYTIME_KEYS", "LIVEKIT_KEYS"] {
        let env = |asked: &str| (asked == name).then(|| format!("k: {}", "s".repeat(32)));
        let config = Config::load(&ServeFlags::default(), env).unwrap().config;
        assert_eq!(config.keys.0.first().unwrap().0, "k", "{name}");
    }
}

#[test]
fn development_stays_on_loopback_with_its_own_key() {
    let dev = ServeFlags { dev: true, ..ServeFlags::default() };
    let config = Config::load(&dev, |_| None).unwrap().config;
    assert!(config.listen_ips().iter().all(IpAddr::is_loopback));
    assert_eq!(config.keys.0, [(DEV_KEY.to_owned(), DEV_SECRET.to_owned())]);
    for bind in ["0.0.0.0", "::", "192.0.2.1"] {
        let flags = ServeFlags { bind: vec![bind.parse().unwrap()], ..dev.clone() };
        assert!(matches!(error_of(Config::load(&flags, |_| None)), ConfigError::DevBind(_)), "{bind}");
    }
    let flags = ServeFlags { bind: vec!["127.0.0.2".parse().unwrap()], ..dev };
    assert!(Config::load(&flags, |_| None).is_ok());
    assert!(matches!(load("development: true\nbind_addresses: ['10.0.0.1']"), Err(ConfigError::DevBind(_))));
}

#[test]
fn a_configuration_never_prints_a_secret() {
    let config = load("").unwrap().config;
    assert!(!serde_norway::to_string(&config).unwrap().contains("0123456789"));
}

#[test]
fn the_sample_names_every_variable() {
    let sample = include_str!("../../../deploy/anytime.yaml");
    let variables = include_str!("mod.rs").split('"').filter(|text| text.starts_with("ANYTIME_"));
    let missing: Vec<_> = variables.filter(|name| !sample.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
