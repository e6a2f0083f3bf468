//! IP addresses of this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

/// Maximum number of listed addresses. The number is limited because a browser checks connectivity to each.
const MOST: usize = 12;

/// IP addresses of this machine, at most 12: the two loopback addresses first, then those of every interface that is
/// up. Only the loopback addresses if there are no others or they cannot be listed.
pub fn machine_addresses() -> Vec<IpAddr> {
    let mut addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    match getifaddrs() {
        Ok(interfaces) => {
            for address in interfaces.filter_map(|interface| usable(&interface)) {
                if addresses.len() < MOST && !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Err(error) => {
            tracing::warn!(%error, "cannot list the addresses of this machine: media is offered on loopback only");
        }
    }
    addresses
}

fn usable(interface: &InterfaceAddress) -> Option<IpAddr> {
    let up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    if !interface.flags.contains(up) {
        return None;
    }
    let address = interface.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
    let address = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))?;
    let elsewhere = match address {
        IpAddr::V4(v4) => !v4.is_loopback(),
        // A link-local address is usable only with its interface, which an ICE candidate cannot name.
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    (elsewhere && !address.is_unspecified() && !address.is_multicast()).then_some(address)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn every_address_but_loopback_can_be_bound_here() {
        let addresses = machine_addresses();
        assert_eq!(addresses.first(), Some(&Ipv4Addr::LOCALHOST.into()));
        let others: Vec<_> = addresses.iter().skip(2).collect();
        assert!(others.iter().all(|address| !address.is_loopback()));
        for address in others {
            UdpSocket::bind((*address, 0)).expect("it is an address of this machine");
        }
    }
}
