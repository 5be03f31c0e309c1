package signer

import (
	"context"
	"encoding/json"

	"github.com/veripath/aes-appliance/internal/ledger"
)

// KeepApart writes a prescription once more, as id, in the form that lines had while document and dossier were objects of their own.
func (s *Signer) KeepApart(ctx context.Context, clinic, of, id string) error {
	k, err := s.lookUp(recordKey(clinic, of))
	if err != nil {
		return err
	}
	rec, err := s.recall(k)
	if err != nil {
		return err
	}
	pdf, err := s.document(ctx, rec)
	if err != nil {
		return err
	}
	d, err := s.dossier(ctx, rec)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(d)
	if err != nil {
		return err
	}
	old := rec.prescriptionSigned
	old.PrescriptionID = id
	if old.Dossier, err = s.objects.Put(ctx, "evidence", raw); err != nil {
		return err
	}
	if old.Document, err = s.objects.Put(ctx, "signed-pdf", pdf); err != nil {
		return err
	}
	_, err = s.ledger.Append(ctx, ledger.Event{Type: eventPrescriptionSigned, Actor: "test", Details: old})
	return err
}
