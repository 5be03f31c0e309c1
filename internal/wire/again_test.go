package wire

import "testing"

// TestNothingIsLeftOfAnEarlierAnswer: who asks until a reason is gone sees when it is, though an answer without one does not name it.
func TestNothingIsLeftOfAnEarlierAnswer(t *testing.T) {
	var st BackupStatus
	for _, one := range []struct{ raw, signing, state string }{
		{`{"state":"comparing","cosigned":false,"signing_refused":"not compared yet"}`, "not compared yet", "comparing"},
		{`{"state":"sync","cosigned":true}`, "", "sync"},
	} {
		if err := Decode([]byte(one.raw), &st); err != nil || st.Signing != one.signing || st.State != one.state {
			t.Errorf("%s: %+v, %v", one.raw, st, err)
		}
	}
}
