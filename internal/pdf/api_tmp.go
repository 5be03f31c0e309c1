package pdf

import (
	"crypto"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

var errSoon = fault.New(fault.Internal, "pdf: being written")

// Limits bound what a file may cost. The zero value of a field means its default.
type Limits struct {
	MaxSize     int64 // bytes of the file; default 256 MiB
	MaxObjects  int   // cross-reference entries over all sections; default 8,388,607 (ISO 32000-1 Annex C)
	MaxDepth    int   // nesting of arrays and dictionaries, of form fields and of the page tree; default 100
	MaxSections int   // cross-reference sections, so also revisions; default 512
	MaxNodes    int   // values in one indirect object; default 1,048,576
	MaxDecoded  int64 // bytes that one stream may decode to; default and ceiling 16 MiB + 64 × the file's size
}

// File is a PDF document at one of its revisions.
type File struct{ data []byte }

// Open reads the newest revision of the document in data. It keeps data and never changes data[:len(data)]; updates of the file may use the
// capacity beyond (give some, and signing need not copy: append(make([]byte, 0, n+slack), ...)).
func Open(data []byte, lim Limits) (*File, error) { return nil, errSoon }

// Bytes returns the file's bytes: at a past revision, up to its end.
func (f *File) Bytes() []byte { return f.data }

// Trailer returns the newest trailer dictionary (of a cross-reference stream, its whole dictionary).
func (f *File) Trailer() Dict { return nil }

// Version returns the document's version, "1.7": the header's or the catalog's, whichever is later.
func (f *File) Version() string { return "" }

// Catalog returns the document catalog and the reference to it.
func (f *File) Catalog() (Dict, Ref, error) { return nil, Ref{}, errSoon }

// Get returns the object that r refers to; nil (null) when there is none.
func (f *File) Get(r Ref) (Object, error) { return nil, errSoon }

// Resolve follows o while it is a reference; loops are errors.
func (f *File) Resolve(o Object) (Object, error) { return nil, errSoon }

// Decode removes the filters from a stream. Image filters (DCTDecode, JPXDecode, CCITTFaxDecode, JBIG2Decode) and Crypt are fault.Unsupported.
func (f *File) Decode(s *Stream) ([]byte, error) { return nil, errSoon }

// Refs returns every object in use, by ascending number.
func (f *File) Refs() []Ref { return nil }

// Check parses every object in use: syntax, stream lengths, object streams, references. Open does not; Prepare does.
func (f *File) Check() error { return errSoon }

// Pages returns the page objects in order.
func (f *File) Pages() ([]Ref, error) { return nil, errSoon }

// Page is a page with the attributes that it may inherit (ISO 32000-2 §7.7.3.4).
type Page struct {
	Ref      Ref
	Dict     Dict
	MediaBox [4]float64 // normalized: left, bottom, right, top
	CropBox  [4]float64 // normalized and within MediaBox
	Rotate   int        // clockwise: 0, 90, 180 or 270
}

// Page returns page i, counted from 0.
func (f *File) Page(i int) (Page, error) { return Page{}, errSoon }

// Revision is one state that the file was saved in.
type Revision struct {
	Start   int64 // first byte: 0, or the previous revision's End
	End     int64 // after its %%EOF and one end-of-line marker; the newest one's is the size of the file
	XRef    int64 // position of its cross-reference section
	Trailer Dict
	Objects []Ref // what it defined, redefined or freed (also through a replaced object stream), by ascending number
}

// Revisions returns the file's revisions, oldest first. An update that was never closed by its own startxref and %%EOF belongs to the one after it.
func (f *File) Revisions() []Revision { return nil }

// At returns the document as it stood at revision i of Revisions.
func (f *File) At(i int) (*File, error) { return nil, errSoon }

// Signature is a signed signature field.
type Signature struct {
	Field          string // fully qualified name
	FieldRef       Ref
	Ref            Ref // of the signature dictionary; zero when it stands in the field itself
	Dict           Dict
	Type           Name // Sig when absent
	SubFilter      Name
	Filter         Name
	ByteRange      [4]int64
	ContentsOffset int64  // of '<'
	ContentsEnd    int64  // after '>'
	Contents       []byte // decoded, with padding
	Revision       int    // the revision that its ByteRange ends with; -1 when it ends with none
	DocMDP         int    // P of its DocMDP reference; 0 = none
	Problem        error  // why it cannot be valid whatever the keys say: ByteRange is not all but Contents, or malformed; nil otherwise
}

// Signatures returns the signed signature fields by ascending end of ByteRange, malformed ones last.
func (f *File) Signatures() ([]Signature, error) { return nil, errSoon }

// DigestRange returns the hash of the two spans of a ByteRange.
func (f *File) DigestRange(h crypto.Hash, br [4]int64) ([]byte, error) { return nil, errSoon }

// SignatureOptions say what Prepare adds.
type SignatureOptions struct {
	Field        string // an existing empty signature field, or the name of a new one; "" = the next free "SignatureN"
	Type         Name   // Sig or DocTimeStamp
	SubFilter    Name   // ETSI.CAdES.detached or ETSI.RFC3161
	Name         string
	Reason       string
	Location     string
	ContactInfo  string
	M            time.Time // signing time; mandatory for Sig, not written for DocTimeStamp
	ContentsSize int       // bytes of DER to leave room for
	Appearance   *Appearance
	Certify      int // DocMDP P 1..3 makes it the certification signature; 0 = approval
}

// Appearance is what a visible signature shows.
type Appearance struct {
	Page      int        // counted from 0; not used with an existing field, which has its page and Rect
	Rect      [4]float64 // in the page's default user space: left, bottom, right, top
	BBox      [4]float64 // the form's; zero = 0 0 width height of Rect
	Content   []byte     // content stream
	Resources Dict       // a *Stream (or a FontDescriptor dictionary) anywhere in it becomes an object of its own
}

// Prepared is a file with a signature whose Contents are still empty.
type Prepared struct{}

// Prepare appends an incremental section with a signature.
func Prepare(f *File, o SignatureOptions) (*Prepared, error) { return nil, errSoon }

// Digest returns the hash over ByteRange.
func (p *Prepared) Digest(h crypto.Hash) ([]byte, error) { return nil, errSoon }

// ByteRange returns the four numbers that were written.
func (p *Prepared) ByteRange() [4]int64 { return [4]int64{} }

// Embed writes der into Contents and returns the signed file; once per Prepared.
func (p *Prepared) Embed(der []byte) (*File, error) { return nil, errSoon }

// DSS is a document security store (EN 319 142-1 §5.4.2): DER certificates, OCSP responses and CRLs.
type DSS struct{ Certs, OCSPs, CRLs [][]byte }

// AppendDSS appends a section that adds to the document security store what is not in it yet; f itself when nothing is new.
func AppendDSS(f *File, d DSS) (*File, error) { return nil, errSoon }

// ReadDSS returns what the document security store holds, empty when there is none.
func ReadDSS(f *File) (DSS, error) { return DSS{}, errSoon }
