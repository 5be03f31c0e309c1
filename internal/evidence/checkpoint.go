package evidence

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// Checkpoint names a state of the log, and who besides the log vouches for it.
type Checkpoint struct {
	Origin       string        `json:"origin"`
	Size         uint64        `json:"size"`
	Root         string        `json:"root"` // hexadecimal
	Cosignatures []Cosignature `json:"cosignatures"`
	Statement    string        `json:"statement"` // what they amount to, in words
}

// Cosignature says who saw a state of the log, and that it had only grown up to then.
type Cosignature struct {
	Name string    `json:"name"`
	Key  string    `json:"key"`  // verifier key
	Time time.Time `json:"time"` // by the cosigner's clock
}

// CheckpointTime is another authority's time stamp over a state of the log.
type CheckpointTime struct {
	Size      uint64    `json:"size"`
	Root      string    `json:"root"` // hexadecimal
	Time      time.Time `json:"time"`
	Serial    string    `json:"serial"` // hexadecimal
	Policy    string    `json:"policy"`
	Authority string    `json:"authority"` // its certificate's common name
}

// NewCheckpoint returns what a summary says of a checkpoint.
func NewCheckpoint(c chain.Cosigned) Checkpoint {
	out := Checkpoint{Origin: c.Origin, Size: c.Size, Root: hex.EncodeToString(c.Root[:]), Cosignatures: []Cosignature{}}
	for _, by := range c.By {
		out.Cosignatures = append(out.Cosignatures, Cosignature{by.Key.Name(), by.Key.String(), by.Time.UTC()})
	}
	out.Statement = out.statement()
	return out
}

// statement says in words what the cosignatures amount to.
func (c Checkpoint) statement() string {
	if len(c.Cosignatures) == 0 {
		return "Not cosigned: nobody but the appliance itself vouches for this state of its log."
	}
	var who []string
	for _, by := range c.Cosignatures {
		who = append(who, fmt.Sprintf("%s at %s", by.Name, by.Time.UTC().Format(time.RFC3339)))
	}
	return fmt.Sprintf("The state of the log with %d lines is cosigned by %s.", c.Size, strings.Join(who, ", and by "))
}

func (c Checkpoint) utc() Checkpoint {
	c.Cosignatures = slices.Clone(c.Cosignatures)
	if c.Cosignatures == nil {
		c.Cosignatures = []Cosignature{}
	}
	for i := range c.Cosignatures {
		c.Cosignatures[i].Time = c.Cosignatures[i].Time.UTC()
	}
	return c
}

func (c Checkpoint) tree() (chain.Tree, error) {
	t := chain.Tree{Size: c.Size}
	if !isHash(c.Root) {
		return t, fmt.Errorf("the checkpoint's root %q is no hash", c.Root)
	}
	_, err := hex.Decode(t.Root[:], []byte(c.Root))
	return t, err
}

// keys returns the keys of the cosigners that the summary names: the pack's own word.
func (c Checkpoint) keys() ([]chain.WitnessKey, error) {
	var keys []chain.WitnessKey
	for _, by := range c.Cosignatures {
		k, err := chain.ParseWitnessKey(by.Key)
		if err != nil {
			return nil, err
		}
		if slices.Contains(keys, k) || k.Name() != by.Name {
			return nil, fmt.Errorf("the cosigner %s is named twice, or by another name", by.Name)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// checkpoint checks the signature over the tree that the proofs lead to, whose key it is, and that the cosignatures are those that the summary names.
func (v *verification) checkpoint() {
	const name = "checkpoint"
	key := v.report.LogKey
	err := v.openCheckpoint(key)
	if err == nil && len(v.o.LogKeys) > 0 && !slices.Contains(v.o.LogKeys, key) {
		err = fmt.Errorf("it is signed by the key %s, which is none that you trust", key)
	}
	if v.check(name, fmt.Sprintf("the log's key, which you trust, signed the tree of %d lines", v.live.Checkpoint.Size), err) && len(v.o.LogKeys) == 0 {
		v.report.Checks[len(v.report.Checks)-1] = Check{name, Unknown,
			"signed by the key in the pack, " + key + ": compare it with the key that the operator publishes"}
	}
}

func (v *verification) openCheckpoint(key string) error {
	tree, err := v.live.Checkpoint.tree()
	if err != nil {
		return err
	}
	cosigners, err := v.live.Checkpoint.keys()
	if err != nil {
		return err
	}
	note := v.files[nameCheckpoint]
	c, by, err := chain.OpenCosigned(note, chain.LogName(key), key, cosigners...)
	if err != nil {
		return err
	}
	if c.Tree != tree || c.Origin != v.live.Checkpoint.Origin {
		return errors.New("the checkpoint names another tree than the summary")
	}
	v.signed = chain.Cosigned{Checkpoint: c, Note: note, By: by}
	if again := NewCheckpoint(v.signed); !slices.EqualFunc(again.Cosignatures, v.live.Checkpoint.Cosignatures, func(a, b Cosignature) bool {
		return a.Key == b.Key && a.Time.Equal(b.Time)
	}) {
		return errors.New("the checkpoint is cosigned otherwise than the summary says")
	}
	return nil
}

// cosignatures holds the checkpoint against the caller's policy.
func (v *verification) cosignatures() {
	const name = "cosignatures"
	state := v.live.Checkpoint.Statement
	if v.o.Policy == nil {
		v.report.Checks = append(v.report.Checks, Check{name, NotJudged, state + " By whom it must be, --witness-keys says"})
		return
	}
	if v.signed.Note == nil { // said already
		v.check(name, "", errors.New("there is no checkpoint to judge"))
		return
	}
	_, by, err := v.o.Policy.Open(v.signed.Note, v.signed.Origin, v.report.LogKey)
	if errors.Is(err, chain.ErrQuorum) {
		v.report.Checks = append(v.report.Checks, Check{name, Unknown, strings.TrimPrefix(err.Error(), "chain: ")})
		return
	}
	v.check(name, "enough of those whom you trust vouch for it: "+NewCheckpoint(chain.Cosigned{Checkpoint: v.signed.Checkpoint, By: by}).Statement, err)
}

// files returns the entries of a checkpoint with a time stamp.
func (s *Stamped) files(checkpoint []byte) ([]entry, error) {
	c, err := checkpointOf(s.Note)
	if err != nil {
		return nil, err
	}
	growth := chain.AddCheckpoint{Old: c.Size, Proof: s.Growth, Checkpoint: checkpoint}
	return []entry{{nameStamped, s.Note}, {nameStamp, s.Token}, {nameGrowth, growth.Marshal()}}, nil
}

// checkpointOf reads the text of a signed note, whose signatures it does not look at.
func checkpointOf(note []byte) (chain.Checkpoint, error) {
	text, _, _ := bytes.Cut(note, []byte("\n\n"))
	return chain.ParseCheckpoint(string(text) + "\n")
}

// timeStamped checks another authority's time stamp: that it is over a checkpoint of this log that has the signing, and that the log has grown from there.
func (v *verification) timeStamped() {
	const name = "time_stamp"
	note, ok := v.files[nameStamped]
	if !ok && v.live.Stamped == nil {
		return
	}
	if ok != (v.live.Stamped != nil) {
		v.check(name, "", errors.New("the summary and the pack disagree on whether there is one"))
		return
	}
	s := *v.live.Stamped
	said := fmt.Sprintf("%s had time-stamped the log's state of %d lines at %s", s.Authority, s.Size, s.Time.UTC().Format(time.RFC3339))
	if !v.check(name, said, v.stampedTree(note)) {
		return
	}
	c := Check{name, NotJudged, said + ": whether you trust that authority, --tsa-trust says"}
	if v.o.JudgeStamp != nil {
		c.Result, c.Text = v.o.JudgeStamp(v.files[nameStamp], note)
	}
	v.report.Checks[len(v.report.Checks)-1] = c
}

func (v *verification) stampedTree(note []byte) error {
	s := v.live.Stamped
	c, err := chain.OpenCheckpoint(note, chain.LogName(v.report.LogKey), v.report.LogKey)
	if err != nil {
		return err
	}
	if c.Size != s.Size || hex.EncodeToString(c.Root[:]) != s.Root {
		return errors.New("the time-stamped checkpoint is not the one that the summary names")
	}
	growth, err := chain.ParseAddCheckpoint(v.files[nameGrowth])
	if err != nil {
		return fmt.Errorf("%s: %w", nameGrowth, err)
	}
	if growth.Old != c.Size || !bytes.Equal(growth.Checkpoint, v.files[nameCheckpoint]) {
		return fmt.Errorf("%s is not about these two checkpoints", nameGrowth)
	}
	if err := chain.VerifyConsistency(c.Tree, v.signed.Tree, growth.Proof); err != nil {
		return err
	}
	for i, l := range v.log.lines {
		if v.log.parsed[i].EventType == EventSigned && l.Seq >= c.Size {
			return fmt.Errorf("the time-stamped checkpoint of %d lines is from before the signing", c.Size)
		}
	}
	return s.isOf(v.files[nameStamp], note)
}

// isOf checks that the token is over note, and says what s says.
func (s *CheckpointTime) isOf(der, note []byte) error {
	token, err := cms.Parse(der)
	if err != nil {
		return fmt.Errorf("%s: %w", nameStamp, err)
	}
	info, err := tsp.ParseTSTInfo(token.Content)
	if err != nil {
		return fmt.Errorf("%s: %w", nameStamp, err)
	}
	h := info.Imprint.Hash.New()
	h.Write(note)
	if !info.Imprint.Equal(tsp.Imprint{Hash: info.Imprint.Hash, Digest: h.Sum(nil)}) {
		return errors.New("the time stamp is over something else")
	}
	if !info.GenTime.Equal(s.Time) || info.Serial.Text(16) != serial(s.Serial) || info.Policy.String() != s.Policy {
		return errors.New("the time stamp is not the one that the summary names")
	}
	crt, err := token.SignerCertificate(0)
	if err != nil {
		return fmt.Errorf("%s: %w", nameStamp, err)
	}
	if crt.Subject.CommonName != s.Authority {
		return fmt.Errorf("the time stamp is of %q, not of %q", crt.Subject.CommonName, s.Authority)
	}
	return nil
}
