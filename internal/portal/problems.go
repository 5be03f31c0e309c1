package portal

// problemTypes is every type of problem that the API answers with. Codes are for ever: clients compare them.
func problemTypes() []problemType {
	return append(accessProblems(), contentProblems()...)
}

// again is what helps with most refused tokens.
const again = "Have the clinician log in again and send the new access token."

// accessProblems are about who asks.
func accessProblems() []problemType {
	return []problemType{
		{"token-missing", 401, "There is no access token", "Send the clinician's access token: Authorization: Bearer TOKEN."},
		{"token-malformed", 401, "The access token cannot be read", "Send the access token (not the ID or the refresh token) as the realm issued it, a JWT."},
		{"token-too-large", 401, "The access token is too large", "Have the realm put fewer roles and claims into the token: 16 KiB are read."},
		{"token-invalid", 401, "The access token is not valid", again},
		{"token-algorithm", 401, "The access token is signed in a way that is not accepted", "Have the realm sign with RS256, PS256, ES256 or EdDSA."},
		{"token-unknown-key", 401, "The realm publishes no key that signed this token", again},
		{"token-signature", 401, "The access token's signature is wrong", again},
		{"token-issuer", 401, "The access token is of another issuer", "Send a token of the realm that is registered for the clinic, by exactly that issuer."},
		{"token-expired", 401, "The access token has expired", "Refresh the token, or have the clinician log in again, and repeat the request with the new access token."},
		{"token-not-yet-valid", 401, "The access token is not valid yet", "Check the clock of the identity provider."},
		{"token-type", 401, "The token is no access token", "Send the access token, not the ID or the refresh token."},
		{"token-audience", 401, "The access token was issued for something else", "Add the audience that the clinic's policy names to the client in the clinic's realm."},
		{"realm-unknown", 401, "The token's issuer is not registered", "An operator registers each clinic's realm, by its exact issuer, with \"appliance realm add\"."},
		{"realm-keys-unavailable", 503, "The realm's keys cannot be fetched", "Try again in a moment. An operator sees whether the identity provider can be reached from the appliance."},
		{"realm-certificate", 503, "Whoever answered for the realm is not the realm", "An operator looks at the TLS certificate of the identity provider, and at what is between it and the appliance."},
		{"realm-keys", 503, "The realm's keys cannot be used", "The identity provider publishes keys that are malformed, too many or too weak: its operator must look."},
		{"realm-keys-churn", 503, "The realm's keys change too often", "The identity provider publishes other keys again and again: its operator must look. Those that it published before serve on for a day."},
		{"role-missing", 403, "The token lacks the role that this needs", "Give the user the role in the clinic's realm, and have them log in again."},
		{"service-account", 403, "A service account may not do this", "Send the clinician's own access token. A clinic's policy can allow service accounts with reduced evidence, which is no advanced electronic signature."},
		{"acr-too-low", 403, "The login was not strong enough", "Have the clinician log in again with the second factor that the clinic's policy asks for."},
		{"login-too-old", 403, "The login is too long ago", "Have the clinician log in again."},
		{"other-clinic", 403, "That is another clinic's", "Use a token of the clinic's own realm."},
		{certificateNotFound, 404, "There is no certificate for this clinician", "clinician_cn must be the name in the certificate, letter by letter. An administrator issues one with POST /certificates/issue."},
		{"certificate-unbound", 403, "The clinician's certificate is bound to no account", "An administrator binds it to the clinician's sub with POST /certificates/{serial}/bind."},
		{"certificate-of-another", 403, "The certificate is another account's", "The clinician must log in with the account that the certificate was bound to."},
		{"certificate-bound", 409, "The certificate is bound already", "A binding is for good: revoke the certificate and issue another."},
		{"policy-changed", 409, "The clinic's policy has just changed", "Send the request again: it is judged by the new policy."},
		{"name-mismatch", 403, "The name is not that of the certificate", "clinician_cn must be the clinician's name as the certificate has it."},
		{"registration-mismatch", 403, "The registration number is not that of the certificate", "professional_register and professional_registration_number must be those of the clinician's certificate. Where that is wrong, an administrator revokes it and issues another."},
		{"clinic-mismatch", 403, "The clinic's name is not that of the certificate", "clinic_name must be the organisation in the clinician's certificate, or one of the trading names in the clinic's policy, which an operator sets (appliance clinic policy SLUG --trading-name NAME)."},
		{"token-signature-cap", 403, "The token has signed as often as it may", "Have the clinician log in again."},
		{"signature-rate", 429, "Too many signatures in a minute", "Wait as long as Retry-After says."},
		{"signing-limit", 429, "Too many signatures at once", "Wait as long as Retry-After says."},
		{"authorisation-used", 409, "The authorisation was used already", "Send the prescription again, with the same Idempotency-Key."},
		{"authorisation-expired", 409, "The authorisation was not used in time", "Send the prescription again, with the same Idempotency-Key."},
		{"rate-limited", 429, "Too many requests", "Wait as long as Retry-After says."},
		{"https-only", 403, "This goes over HTTPS only", "Send it to the https address. A token that was sent over plain http has been in the clear: log in again."},
		{"forbidden", 403, "This is not allowed", ""},
	}
}

// contentProblems are about what is asked, and about the appliance itself.
func contentProblems() []problemType {
	return []problemType{
		{"invalid-content", 422, "The prescription cannot be signed as it is", "Correct every field that is listed in errors, then send it again."},
		{"consent-missing", 422, "The clinician's consent is missing", "Show the clinician what is to be signed, and send consent_text and consent_timestamp of their agreement."},
		{"consent-invalid", 422, "The consent cannot be accepted", "Send the text that the clinician agreed to and when they did: not in the future, and not long ago."},
		{"controlled-drug", 422, "Controlled drugs of schedules 1 to 3 are not signed here", "Schedules 2 and 3 go through EPS only, schedule 1 not at all (HMR 2012 regulation 219)."},
		{"given-pdf-refused", 422, "The PDF cannot be signed as it is", "Send a PDF of plain pages, made new, without scripts, attachments, layers or earlier changes; or send none and let the appliance make it."},
		{"unreadable-pdf", 422, "The file cannot be read as a PDF", "Send the PDF as it was downloaded, byte for byte."},
		{"given-pdf-not-allowed", 403, "The clinic signs no PDFs that are given", "Send none: the appliance makes the document from the prescription. The clinic's policy can allow it."},
		{"invalid-request", 422, "The request cannot be understood", "Compare it with /docs."},
		{"invalid-json", 400, "The body is not JSON", "Send one JSON object in UTF-8 with Content-Type: application/json."},
		{"not-found", 404, "There is no such thing", "Check the address. A clinic sees only what is its own."},
		{"method-not-allowed", 405, "The address does not take this method", "Use the method that the Allow header names."},
		{"prescription-not-found", 404, "There is no such prescription", "Check prescription_id. A clinic sees only its own prescriptions."},
		{"conflict", 409, "It exists already with other content", "Look at what is there, or choose another identifier."},
		{"prescription-conflict", 409, "A prescription of this number was signed with other content", "Use a new prescription_id: what was signed is never replaced."},
		{"idempotency-conflict", 409, "The Idempotency-Key was used for other content", "Use a new Idempotency-Key for each new prescription."},
		{"too-large", 413, "The request is too large", "Send less: the limit is the operator's to set. A PDF may be sent to be signed only where the clinic's policy allows it."},
		{"header-too-large", 431, "The header of the request is too large", "Send fewer or smaller header fields: 32 KiB are read in all."},
		{"too-slow", 408, "The request took too long", "Send it again."},
		{"unsupported", 415, "This form is not dealt with", "Use the content types that /docs names."},
		{"unavailable", 503, "It cannot be done now", "Try again as Retry-After says: with the same Idempotency-Key nothing is signed twice."},
		{"signer-unreachable", 503, "The signer cannot be reached", "Try again as Retry-After says: with the same Idempotency-Key nothing is signed twice."},
		{"clock-unproven", 503, "The time is not proven", "Nothing is signed while the clock is not proven right. An operator looks at chrony."},
		{"not-yet-replicated", 503, "The backup has not confirmed it yet", "It is recorded. Send the same request again, with the same Idempotency-Key: it is answered once the backup has it, and nothing is signed twice."},
		{"backup-not-compared", 503, "The log has not been compared with the backup yet", "Try again as Retry-After says. Nothing is signed before; an operator sees the cause with \"appliance backup status\"."},
		{"log-not-as-cosigned", 503, "The log is not what the backup cosigned", "Nothing is signed until an operator has found out why: \"appliance backup status\" says what was found."},
		{"log-damaged", 503, "The log is damaged", "Nothing is signed until an operator has restored the log: \"appliance audit verify\" says what is wrong with it, \"appliance backup status\" how its copy stands."},
		{"backup-required", 503, "There is no backup, and one is required", "An operator enrols one with \"appliance backup enrol\"."},
		{"replication-lag", 503, "The backup lags too far behind", "Try again as Retry-After says. An operator sees the cause with \"appliance backup status\"."},
		{"timeout", 503, "It took too long", "Try again as Retry-After says: with the same Idempotency-Key nothing is signed twice."},
		{"internal", 500, "Something went wrong inside the appliance", "Try again; if it stays, quote request_id to an operator."},
	}
}
