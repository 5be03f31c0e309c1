// Package pades makes, renews and validates PAdES baseline signatures (ETSI EN 319 142-1) up to level B-LTA.
//
// Making one needs two things that this package does not have: a key and a clock. Both stay behind an Authority, which gets digests and
// gives back finished CMS structures, so that the side that handles documents never holds a key:
//
//	document -> pdf.Prepare -> ByteRange digest -> Authority.Sign  -> CMS with signature time stamp, status of every certificate
//	         -> embed, write the DSS -> digest  -> Authority.Stamp -> document time stamp -> embed
//
// Validation needs nothing but the bytes, the trust anchors and a time.
package pades
