package dmd

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Bounds of an extract. TRUD's has about 20 MB, and its largest file some 200 MB when unpacked.
const (
	MaxArchive  = 512 << 20 // bytes
	maxEntries  = 1000
	maxUnpacked = 1 << 30 // bytes of one file
)

// fileName is how the files are called: f_vmp2_3DDMMYY.xml (dm+d Technical Specification of Data Files, release 2).
var fileName = regexp.MustCompile(`^(?:[^/]*/)?f_(vmp|amp|vmpp|ampp|lookup)2_3(\d{6})\.xml$`)

// Import makes a Dictionary of an extract: the zip of the XML files that TRUD distributes as "NHSBSA dm+d", of size bytes. It reads the files of
// virtual and actual products, of their packs, and of the lookups, unpacking each as a stream.
//
// The schedule is that of the virtual product (CONTROL_INFO), by the words of the extract's own lookup for its category; actual products and packs have
// that of their virtual product. A product of which the extract says nothing is not in the Dictionary. A virtual product's former code
// (VPIDPREV) counts for it; where two share one, the stricter schedule does.
//
// The error is a fault of kind Invalid that says what about the extract is not as it should be.
func Import(r io.ReaderAt, size int64) (*Dictionary, error) {
	d, err := extracted(r, size)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the dm+d extract cannot be used: "+err.Error()).WithCause(err).
			WithHint(`give the zip as it was downloaded from TRUD ("NHSBSA dm+d"), with f_vmp2_3….xml and the others in it`)
	}
	return d, nil
}

func extracted(r io.ReaderAt, size int64) (*Dictionary, error) {
	if size > MaxArchive {
		return nil, fmt.Errorf("it has more than %d bytes", MaxArchive)
	}
	archive, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("it is no zip archive")
	}
	files, release, err := choose(archive)
	if err != nil {
		return nil, err
	}
	x := newExtract()
	for _, part := range x.parts() { // in an order in which each finds what it refers to
		if err := read(files[part.file], part); err != nil {
			return nil, fmt.Errorf("%s: %w", files[part.file].Name, err)
		}
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(r, 0, size)); err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", err)
	}
	return x.dictionary(release, hex.EncodeToString(hash.Sum(nil)))
}

// choose finds each file once, all of one date.
func choose(archive *zip.Reader) (files map[string]*zip.File, release string, err error) {
	if len(archive.File) > maxEntries {
		return nil, "", fmt.Errorf("it holds more than %d files", maxEntries)
	}
	files = map[string]*zip.File{}
	date := ""
	for _, f := range archive.File {
		m := fileName.FindStringSubmatch(f.Name)
		switch {
		case m == nil:
			continue
		case files[m[1]] != nil:
			return nil, "", fmt.Errorf("it holds two files f_%s2", m[1])
		case date != "" && m[2] != date:
			return nil, "", errors.New("its files are of different dates")
		case f.UncompressedSize64 > maxUnpacked:
			return nil, "", fmt.Errorf("%s has more than %d bytes", f.Name, maxUnpacked)
		}
		files[m[1]], date = f, m[2]
	}
	for _, want := range []string{"lookup", "vmp", "amp", "vmpp", "ampp"} {
		if files[want] == nil {
			return nil, "", fmt.Errorf("the file f_%s2_3DDMMYY.xml is not in it", want)
		}
	}
	t, err := time.Parse("020106", date)
	if err != nil {
		return nil, "", fmt.Errorf("the names of its files end with no date: 3%s is not 3DDMMYY", date)
	}
	return files, t.Format(time.DateOnly), nil
}

func read(f *zip.File, p part) error {
	in, err := f.Open()
	if err != nil {
		return fmt.Errorf("cannot be unpacked: %w", err)
	}
	defer in.Close()
	return p.read(&bounded{r: in, left: maxUnpacked})
}

// bounded fails, rather than ends, when more comes than was said.
type bounded struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("has more than %d bytes", maxUnpacked)
	}
	return n, err
}

// extract is what is gathered from the files.
type extract struct {
	categories map[string]uint64 // CATCD -> schedule
	controlled map[uint64]uint64 // VPID -> schedule
	virtual    map[uint64]bool   // VPID
	packs      map[uint64]uint64 // VPPID -> VPID
	of         map[uint64]uint64 // every code but a virtual product's own -> VPID
	former     [][2]uint64       // VPIDPREV, VPID
}

func newExtract() *extract {
	return &extract{categories: map[string]uint64{}, controlled: map[uint64]uint64{}, virtual: map[uint64]bool{}, packs: map[uint64]uint64{}, of: map[uint64]uint64{}}
}

// parts says what is read from which file.
func (x *extract) parts() []part {
	return []part{
		{"lookup", []section{{"CONTROL_DRUG_CATEGORY", "INFO", []string{"CD", "DESC"}, x.category}}},
		{"vmp", []section{{"VMPS", "VMP", []string{"VPID", "VPIDPREV"}, x.vmp}, {"CONTROL_DRUG_INFO", "CONTROL_INFO", []string{"VPID", "CATCD"}, x.control}}},
		{"amp", []section{{"AMPS", "AMP", []string{"APID", "VPID"}, x.product}}},
		{"vmpp", []section{{"VMPPS", "VMPP", []string{"VPPID", "VPID"}, x.pack}}},
		{"ampp", []section{{"AMPPS", "AMPP", []string{"APPID", "VPPID"}, x.actualPack}}},
	}
}

// inWords is how the lookup describes the categories: "No Controlled Drug Status", "Schedule 3 (CD No Register Phenobarbital)".
var inWords = regexp.MustCompile(`^Schedule ([1-5])( |$)`)

func (x *extract) category(v []string) error {
	code, words := v[0], strings.Join(strings.Fields(v[1]), " ")
	if _, twice := x.categories[code]; twice || code == "" || len(x.categories) > 100 {
		return fmt.Errorf("the category %.10q is there twice, or none", code)
	}
	if m := inWords.FindStringSubmatch(words); m != nil {
		x.categories[code] = uint64(m[1][0] - '0')
		return nil
	}
	if words != "No Controlled Drug Status" {
		return fmt.Errorf("the words of the category %.10q are not understood: %.60q", code, words)
	}
	x.categories[code] = 0
	return nil
}

func (x *extract) vmp(v []string) error {
	id, err := x.code("VPID", v[0])
	if err != nil {
		return err
	}
	if x.virtual[id] {
		return fmt.Errorf("the VPID %d is there twice", id)
	}
	x.virtual[id] = true
	if v[1] == "" {
		return nil
	}
	was, err := x.code("VPIDPREV", v[1])
	x.former = append(x.former, [2]uint64{was, id})
	return err
}

func (x *extract) control(v []string) error {
	id, err := x.code("VPID", v[0])
	if err != nil {
		return err
	}
	schedule, known := x.categories[v[1]]
	if !known || !x.virtual[id] {
		return fmt.Errorf("the category %.10q of the VPID %d is not known, or of no product", v[1], id)
	}
	if other, twice := x.controlled[id]; !twice || strictness(schedule) > strictness(other) {
		x.controlled[id] = schedule
	}
	return nil
}

// product is an actual medicinal product, which is a kind of a virtual one.
func (x *extract) product(v []string) error {
	return x.kindOf("APID", v[0], "VPID", v[1], func(id uint64) (uint64, bool) { return id, x.virtual[id] })
}

func (x *extract) pack(v []string) error {
	err := x.kindOf("VPPID", v[0], "VPID", v[1], func(id uint64) (uint64, bool) { return id, x.virtual[id] })
	if err != nil {
		return err
	}
	id, _ := number(v[0])
	x.packs[id] = x.of[id]
	return nil
}

func (x *extract) actualPack(v []string) error {
	return x.kindOf("APPID", v[0], "VPPID", v[1], func(id uint64) (uint64, bool) { vpid, ok := x.packs[id]; return vpid, ok })
}

// kindOf notes that one code is a kind of another's virtual product.
func (x *extract) kindOf(name, code, parentName, parentCode string, virtual func(uint64) (uint64, bool)) error {
	id, err := x.code(name, code)
	if err != nil {
		return err
	}
	parent, err := x.code(parentName, parentCode)
	if err != nil {
		return err
	}
	vpid, ok := virtual(parent)
	if !ok {
		return fmt.Errorf("the %s %d is of the %s %d, which is nowhere", name, id, parentName, parent)
	}
	if _, twice := x.of[id]; twice || x.virtual[id] {
		return fmt.Errorf("the %s %d is there twice", name, id)
	}
	x.of[id] = vpid
	return nil
}

func (x *extract) code(name, s string) (uint64, error) {
	if len(x.virtual)+len(x.of)+len(x.former) >= maxCodes {
		return 0, fmt.Errorf("there are more than %d codes", maxCodes)
	}
	id, ok := number(s)
	if !ok {
		return 0, fmt.Errorf("%.20q is no %s", s, name)
	}
	return id, nil
}

// dictionary sorts what was gathered.
func (x *extract) dictionary(release, source string) (*Dictionary, error) {
	known := make(map[uint64]uint64, len(x.virtual)+len(x.of)+len(x.former))
	for id, schedule := range x.controlled {
		known[id] = schedule
	}
	for id, vpid := range x.of {
		if schedule, ok := x.controlled[vpid]; ok {
			known[id] = schedule
		}
	}
	for _, f := range x.former {
		schedule, ok := x.controlled[f[1]]
		if _, present := x.of[f[0]]; !ok || present || x.virtual[f[0]] { // a code that is in use means what it means today
			continue
		}
		if other, there := known[f[0]]; !there || strictness(schedule) > strictness(other) {
			known[f[0]] = schedule
		}
	}
	codes := make([]uint64, 0, len(known))
	for id, schedule := range known {
		codes = append(codes, id<<scheduleBits|schedule)
	}
	slices.Sort(codes)
	d := &Dictionary{Release: release, Source: source}
	for _, c := range codes {
		d.codes = binary.BigEndian.AppendUint64(d.codes, c)
	}
	if d.Controlled() == 0 || d.Controlled() == d.Len() {
		return nil, errors.New("it has no controlled drugs, or nothing else")
	}
	return Parse(d.Marshal())
}

// strictness orders schedules: 1 is the strictest, none the least.
func strictness(schedule uint64) uint64 {
	if schedule == 0 {
		return 0
	}
	return maxSchedule + 1 - schedule
}
