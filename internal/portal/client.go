package portal

import (
	"net/http"
	"net/netip"
	"strings"
)

// maxHops bounds how many addresses of X-Forwarded-For are looked at, from the right.
const maxHops = 32

// clientAddress returns who made the request, as far as the portal knows it itself: the peer of the TCP connection, or behind trusted proxies
// whom the outermost of them saw. before is what stood left of that in X-Forwarded-For, which is that client's word about its own client; it is
// the zero Addr when there is none.
func clientAddress(r *http.Request, trusted []netip.Prefix) (client, before netip.Addr) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, netip.Addr{}
	}
	client = peer.Addr().Unmap().WithZone("")
	hops := forwarded(r.Header)
	for isTrusted(client, trusted) && len(hops) > 0 {
		last, err := parseHop(hops[len(hops)-1])
		if err != nil {
			return client, netip.Addr{} // the proxy wrote something else than an address: what is left of it proves nothing
		}
		client, hops = last, hops[:len(hops)-1]
	}
	if len(hops) > 0 {
		if before, err = parseHop(hops[len(hops)-1]); err != nil {
			before = netip.Addr{}
		}
	}
	return client, before
}

// forwarded returns the last maxHops members of X-Forwarded-For, all its lines joined (RFC 9110 §5.3).
func forwarded(h http.Header) []string {
	lines := strings.Join(h.Values("X-Forwarded-For"), ",")
	if lines == "" {
		return nil
	}
	var hops []string
	for len(hops) < maxHops {
		i := strings.LastIndexByte(lines, ',')
		hops = append(hops, strings.TrimSpace(lines[i+1:]))
		if i < 0 {
			break
		}
		lines = lines[:i]
	}
	for i, j := 0, len(hops)-1; i < j; i, j = i+1, j-1 {
		hops[i], hops[j] = hops[j], hops[i]
	}
	return hops
}

// parseHop reads an address, perhaps with a port behind it, as some proxies write.
func parseHop(s string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), nil
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return a.Unmap().WithZone(""), err
}

func isTrusted(a netip.Addr, trusted []netip.Prefix) bool {
	for _, p := range trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
