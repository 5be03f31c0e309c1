package ca

import "sync"

// cacheSize bounds a cache: about 4 MB of credentials or answers.
const cacheSize = 2048

// cache keeps what is costly to find. When full it forgets an arbitrary value: what it holds can always be found again.
type cache[V any] struct {
	mu sync.RWMutex
	m  map[string]V
}

func (c *cache[V]) get(key string) (V, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	v, ok := c.m[key]
	return v, ok
}

func (c *cache[V]) put(key string, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[string]V{}
	}
	if _, have := c.m[key]; !have && len(c.m) >= cacheSize {
		for old := range c.m {
			delete(c.m, old)
			break
		}
	}
	c.m[key] = v
}
