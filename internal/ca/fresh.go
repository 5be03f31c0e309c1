package ca

import (
	"sync"
	"time"
)

// fresh keeps the answers of one second. Times in answers are whole seconds, so that a second answer about a certificate whose state was
// looked up anew would say the same; under load that saves most of the signatures about the TSA.
type fresh struct {
	mu      sync.Mutex
	at      time.Time
	answers map[freshKey][]byte
}

// freshKey names an answer: who speaks, about which certificate.
type freshKey struct {
	responder *responder
	serial    string
}

// get returns the answer of the second at, made by sign if there is none yet. at has whole seconds.
func (f *fresh) get(key freshKey, at time.Time, sign func() ([]byte, error)) ([]byte, error) {
	f.mu.Lock()
	var der []byte
	if f.at.Equal(at) {
		der = f.answers[key]
	}
	f.mu.Unlock()
	if der != nil {
		return der, nil
	}
	der, err := sign()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if at.After(f.at) {
		f.at, f.answers = at, map[freshKey][]byte{}
	}
	if at.Equal(f.at) {
		f.answers[key] = der
	}
	return der, nil
}
