package wire

import "time"

// ArchiveDue asks which stored documents are to get a further time stamp: those whose newest one's certificate, or one that it rests on, ends within Within,
// and those whose newest one was made before StampedBefore.
type ArchiveDue struct {
	Within        time.Duration `json:"within"`
	StampedBefore time.Time     `json:"stamped_before,omitzero"`
	Cursor        string        `json:"cursor,omitempty"` // Next of the page before
}

// ArchiveList is a page of them. It may be empty and still have a Next: so much was looked at.
type ArchiveList struct {
	Documents []ArchiveRef `json:"documents"`
	Next      string       `json:"next,omitempty"`
}

// ArchiveRef names a stored document.
type ArchiveRef struct {
	Clinic         string `json:"clinic"`
	PrescriptionID string `json:"prescription_id"`
}

// ArchiveOpened is what the renewal of one begins with; the document in its newest state comes as descriptor.
type ArchiveOpened struct {
	RenewOpened
	Root []byte `json:"root"` // certificate, DER: by which the document is judged first
	Size int64  `json:"size"` // of the document, in bytes
}

// ArchiveStamp asks for the document time stamp over the SHA-256 of a ByteRange.
type ArchiveStamp struct {
	ArchiveRef
	Digest []byte `json:"digest"`
}

// ArchiveKeep keeps a renewal. What comes as descriptor is what was appended to the document, and nothing before it.
type ArchiveKeep struct {
	ArchiveRef
	StampRange [4]int64 `json:"stamp_range"` // ByteRange of the time stamp, in the whole document
}

// Archived is a renewal that is kept.
type Archived struct {
	SHA256 string `json:"sha256"` // of the whole document
	Size   int64  `json:"size"`
}
