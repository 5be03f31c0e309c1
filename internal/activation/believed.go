package activation

import (
	"sync"

	"github.com/veripath/aes-appliance/internal/jwt"
)

// believed remembers which key signed a token, and what the token says: the caller of one prescription is asked for twice, and tokens come again. Of that
// nothing can change. All that can is looked at on each use: whether the realm is registered and still publishes that very key, the time, the clinic's
// policy. No refusal is remembered.
type believed struct {
	mu     sync.Mutex
	tokens map[[32]byte]belief // by jwt.Hash
}

type belief struct {
	claims jwt.Claims
	key    jwt.Key
}

// maxBelieved bounds how many are remembered; each is as large as its token at most, and those of Keycloak have one or two kilobytes.
const maxBelieved = 512

// recall returns what is remembered of a token.
func (b *believed) recall(token string) (belief, bool) {
	if len(token) > jwt.MaxToken {
		return belief{}, false
	}
	hash := jwt.Hash(token)
	b.mu.Lock()
	defer b.mu.Unlock()
	known, ok := b.tokens[hash]
	return known, ok
}

// issuer is jwt.Issuer.
func (b *believed) issuer(token string) (string, error) {
	if known, ok := b.recall(token); ok {
		return known.claims.Issuer, nil
	}
	return jwt.Issuer(token)
}

// read is jwt.Read, and returns the key as well.
func (b *believed) read(token string, keys jwt.Keys) (jwt.Claims, jwt.Key, error) {
	if known, ok := b.recall(token); ok {
		// The same public key under the same kid and for the same algorithm: verifying again could not end otherwise.
		now, published := keys.Find(known.claims.Kid)
		if published && now.Thumbprint == known.key.Thumbprint && now.Algorithm == known.key.Algorithm {
			return known.claims, now, nil
		}
	}
	claims, err := jwt.Read(token, keys)
	if err != nil {
		return jwt.Claims{}, jwt.Key{}, err
	}
	key, _ := keys.Find(claims.Kid)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens == nil || len(b.tokens) >= maxBelieved {
		b.tokens = map[[32]byte]belief{}
	}
	b.tokens[claims.TokenHash] = belief{claims, key}
	return claims, key, nil
}
