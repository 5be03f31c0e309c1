package demorealm

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The people of the demo, as "person" names them.
const (
	Doctor  = "doctor"  // the clinician: Doctor Clinician
	Admin   = "admin"   // the clinic's administrator, who signs nothing
	Service = "service" // no person: the service account of aes-signer-sa
)

// DoctorSub is the doctor's sub: whom the demo's certificate is bound to.
const DoctorSub = "3f1c9a52-7d5e-4c1b-9a51-0d3f6b7a2c11"

// Life of a token unless ttl says otherwise.
const Life = time.Hour

// maxForm bounds a request for a token, in bytes.
const maxForm = 64 << 10

// Token makes a token with what form says, a field of application/x-www-form-urlencoded each; none is needed:
//
//	person              doctor, admin or service; doctor
//	sub, name, username, acr, aud, azp
//	                    these claims, in place of the person's; empty: without
//	roles               realm roles with spaces between
//	auth_age            how long ago the log-in was, in seconds; 0
//	ttl                 how long the token lives, in seconds, negative for one that has expired; 3600
//	claims              a JSON object that is laid over the claims; null takes one away
//
// The error says what is wrong with the form.
func (r *Realm) Token(form url.Values) (token string, life time.Duration, err error) {
	fields := fields()
	for name, values := range form {
		if _, known := fields[name]; !known || len(values) != 1 {
			return "", 0, fmt.Errorf("%.40q is not known, or is there twice", name)
		}
	}
	claims, ok := people(form.Get("person"))
	if !ok {
		return "", 0, fmt.Errorf("person is %s, %s or %s", Doctor, Admin, Service)
	}
	age, err := seconds(form, "auth_age", 0)
	if err != nil {
		return "", 0, err
	}
	if life, err = seconds(form, "ttl", Life); err != nil {
		return "", 0, err
	}
	now := r.now()
	maps.Copy(claims, map[string]any{
		"iss": r.Issuer(), "aud": "aes-portal", "typ": "Bearer", "scope": "openid profile", "jti": rand.Text(),
		"iat": now.Unix() + min(0, int64(life/time.Second)-1), "exp": now.Add(life).Unix(), // issued before it expired
	})
	if form.Get("person") != Service {
		claims["auth_time"] = now.Add(-age).Unix()
		claims["sid"] = rand.Text()
	}
	for field, claim := range fields {
		if claim == "" || !form.Has(field) {
			continue
		}
		claims[claim] = form.Get(field)
		if form.Get(field) == "" {
			delete(claims, claim)
		}
	}
	if form.Has("roles") {
		claims["realm_access"] = map[string]any{"roles": append([]string{}, strings.Fields(form.Get("roles"))...)}
	}
	if err := overlay(claims, form.Get("claims")); err != nil {
		return "", 0, err
	}
	token, err = r.sign(claims)
	return token, life, err
}

// fields are what a form may hold, each with the claim that it sets as it is.
func fields() map[string]string {
	return map[string]string{
		"person": "", "roles": "", "auth_age": "", "ttl": "", "claims": "",
		"sub": "sub", "name": "name", "username": "preferred_username", "acr": "acr", "aud": "aud", "azp": "azp",
	}
}

// people returns what a Keycloak realm would say of somebody.
func people(who string) (map[string]any, bool) {
	roles := func(list ...string) map[string]any { return map[string]any{"roles": list} }
	switch who {
	case "", Doctor:
		return map[string]any{"sub": DoctorSub, "preferred_username": "dr.clinician", "name": "Doctor Clinician", "acr": "2", "azp": "booking-app", "realm_access": roles("clinician")}, true
	case Admin:
		return map[string]any{"sub": "8a6e0804-2bd0-4672-b79d-d97027f9071a", "preferred_username": "admin", "name": "Clinic Admin", "acr": "2", "azp": "booking-app", "realm_access": roles("aes-admin")}, true
	case Service:
		return map[string]any{"sub": "5a9c0b1e-0c38-4b8b-a1de-3d0e93b4e7f2", "preferred_username": "service-account-aes-signer-sa", "acr": "1", "azp": "aes-signer-sa",
			"client_id": "aes-signer-sa", "clientHost": "127.0.0.1", "clientAddress": "127.0.0.1", "realm_access": roles("clinician")}, true
	}
	return nil, false
}

// seconds reads a number of seconds of at most a year either way.
func seconds(form url.Values, name string, fallback time.Duration) (time.Duration, error) {
	if !form.Has(name) {
		return fallback, nil
	}
	const year = 366 * 24 * 3600
	n, err := strconv.Atoi(form.Get(name))
	if err != nil || n < -year || n > year {
		return 0, fmt.Errorf("%s is not a number of seconds, of at most a year", name)
	}
	return time.Duration(n) * time.Second, nil
}

// overlay puts the members of a JSON object over claims; null removes.
func overlay(claims map[string]any, text string) error {
	if text == "" {
		return nil
	}
	var over map[string]any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&over); err != nil || over == nil || d.More() {
		return fmt.Errorf("claims is not one JSON object")
	}
	for name, value := range over {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	return nil
}

// form reads the body of a request for a token; none is an empty form.
func form(w http.ResponseWriter, q *http.Request) (url.Values, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, maxForm))
	if err != nil {
		return nil, fmt.Errorf("the form has more than %d bytes", maxForm)
	}
	kind, _, err := mime.ParseMediaType(q.Header.Get("Content-Type"))
	if len(bytes.TrimSpace(body)) > 0 && (err != nil || kind != "application/x-www-form-urlencoded") {
		return nil, fmt.Errorf("the body is not application/x-www-form-urlencoded")
	}
	return url.ParseQuery(string(bytes.TrimSpace(body)))
}

// give answers POST /token with the token alone, as text: what a shell wants.
func (r *Realm) give(w http.ResponseWriter, q *http.Request) {
	f, err := form(w, q)
	var token string
	if err == nil {
		token, _, err = r.Token(f)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, token+"\n") // the client is gone
}

// grant answers the token endpoint (RFC 6749 §4.3, §4.4): a client's own token, or that of the person whom username names, whatever the password is.
func (r *Realm) grant(w http.ResponseWriter, q *http.Request) {
	refuse := func(code, text string) {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": text})
	}
	f, err := form(w, q)
	if err != nil {
		refuse("invalid_request", err.Error())
		return
	}
	ask := url.Values{}
	switch f.Get("grant_type") {
	case "client_credentials":
		ask.Set("person", Service)
	case "password":
		ask.Set("person", f.Get("username"))
	default:
		refuse("unsupported_grant_type", "grant_type is client_credentials, or password with the username doctor or admin")
		return
	}
	token, life, err := r.Token(ask)
	if err != nil {
		refuse("invalid_grant", err.Error())
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": int(life / time.Second), "scope": "openid profile"})
}
