//! Fills in browser and operating system from `User-Agent` if the client does not report them. Codecs and SRTP profiles
//! depend on the client's WebRTC stack.

use livekit_protocol::ClientInfo;

use super::query::cut;

const MAX_VERSION_BYTES: usize = 32;

/// Browser tokens in order of precedence, because the header of an earlier browser may also contain the tokens of later
/// ones.
const BROWSERS: [(&str, &str); 8] = [
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Version/", "Safari"),
];

/// Tokens of operating systems in order of precedence: Android's header also contains Linux, an iPhone's also Mac OS X.
const SYSTEMS: [(&str, &str); 7] = [
    ("iPhone OS ", "iOS"),
    ("CPU OS ", "iOS"),
    ("Android ", "Android"),
    ("Windows NT ", "Windows"),
    ("Mac OS X ", "macOS"),
    ("CrOS ", "Chrome OS"),
    ("Linux", "Linux"),
];

/// Sets browser and operating system if `info` lacks them.
pub(super) fn complete(info: &mut ClientInfo, agent: &str) {
    if info.browser.is_empty()
        && let Some((name, version)) = find(&BROWSERS, agent)
        && (name != "Safari" || agent.contains("Safari/"))
    {
        info.browser = name.to_owned();
        info.browser_version = version;
    }
    if info.os.is_empty()
        && let Some((name, version)) = find(&SYSTEMS, agent)
    {
        info.os = name.to_owned();
        info.os_version = version;
    }
}

fn find(table: &[(&str, &'static str)], agent: &str) -> Option<(&'static str, String)> {
    table.iter().find_map(|(token, name)| {
        let (_, rest) = agent.split_once(token)?;
        let version: String = rest
            .chars()
            .take_while(|letter| letter.is_ascii_digit() || matches!(letter, '.' | '_'))
            .map(|letter| if letter == '_' { '.' } else { letter })
            .collect();
        Some((*name, cut(&version, MAX_VERSION_BYTES)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(agent: &str) -> (String, String, String, String) {
        let mut info = ClientInfo::default();
        complete(&mut info, agent);
        (info.browser, info.browser_version, info.os, info.os_version)
    }

    #[test]
    fn browsers_and_systems_are_told_apart() {
        for (agent, browser, version, os, os_version) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0.0.0 Safari/537.36",
                "Chrome",
                "146.0.0.0",
                "Linux",
                "",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0 Safari/537.36 Edg/146.1",
                "Edge",
                "146.1",
                "Windows",
                "10.0",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; rv:145.0) Gecko/20100101 Firefox/145.0",
                "Firefox",
                "145.0",
                "Windows",
                "10.0",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Safari/605.1.15",
                "Safari",
                "18.4",
                "macOS",
                "10.15.7",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/146.0 Mobile Safari/604.1",
                "Chrome",
                "146.0",
                "iOS",
                "18.4",
            ),
            (
                "Mozilla/5.0 (Linux; Android 15; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0 Mobile Safari/537.36",
                "Chrome",
                "146.0",
                "Android",
                "15",
            ),
            ("Go-http-client/1.1", "", "", "", ""),
            ("", "", "", "", ""),
        ] {
            let expected = (browser.into(), version.into(), os.into(), os_version.into());
            assert_eq!(read(agent), expected, "{agent}");
        }
    }

    #[test]
    fn what_the_client_says_is_kept() {
        let mut info = ClientInfo { browser: "Own".into(), os: "OwnOS".into(), ..ClientInfo::default() };
        complete(&mut info, "Mozilla/5.0 (X11; Linux x86_64) Chrome/1.0 Safari/1");
        assert_eq!(
            (info.browser.as_str(), info.os.as_str(), info.browser_version.as_str()),
            ("Own", "OwnOS", "")
        );
    }
}
