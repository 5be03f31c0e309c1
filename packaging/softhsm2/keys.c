/*
 * Reads EC parameters and PKCS#8 private keys for the SoftHSM2 that is linked in, as OpenSSL 1.1 did. OpenSSL 3's own EVP_PKCS82PKEY
 * searches all its decoders for each key (350 of the 510 microseconds that unwrap, sign and destroy took with P-256), and
 * d2i_ECPKParameters computes the curve's constants anew (10 microseconds, three times for each wrapped signature).
 *
 * build.sh compiles SoftHSM2, and nothing else, with the two names defined to be the functions here. What they do not know goes to
 * OpenSSL's own.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <string.h>

#include <openssl/asn1.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

/* Made once, before main, and only read afterwards. */
static EC_GROUP *p256, *p384;

void shim_prepare_groups(void)
{
	p256 = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	p384 = EC_GROUP_new_by_curve_name(NID_secp384r1);
}

/* RFC 5480 2.1.1: ECParameters ::= namedCurve OBJECT IDENTIFIER */
static const unsigned char p256_der[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
static const unsigned char p384_der[] = {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22};

EC_GROUP *shim_d2i_ECPKParameters(EC_GROUP **out, const unsigned char **in, long len)
{
	const EC_GROUP *known = NULL;

	if (len == (long)sizeof p256_der && memcmp(*in, p256_der, sizeof p256_der) == 0)
		known = p256;
	if (len == (long)sizeof p384_der && memcmp(*in, p384_der, sizeof p384_der) == 0)
		known = p384;
	if (known == NULL || out != NULL)
		return d2i_ECPKParameters(out, in, len);
	*in += len;
	return EC_GROUP_dup(known);
}

/*
 * RFC 5915 3: ECPrivateKey ::= SEQUENCE { version INTEGER (1), privateKey OCTET STRING, ... }. Only the scalar is read: SoftHSM2 wants no
 * more, and d2i_ECPrivateKey would compute the public key. The scalar must lie in [1, order-1].
 */
static EC_KEY *read_ec_private(const EC_GROUP *group, const unsigned char *p, long len)
{
	const unsigned char *end = p + len;
	int tag, class;
	long n;
	EC_KEY *key;

	if (ASN1_get_object(&p, &n, &tag, &class, end - p) != V_ASN1_CONSTRUCTED || tag != V_ASN1_SEQUENCE || p + n != end)
		return NULL;
	if (ASN1_get_object(&p, &n, &tag, &class, end - p) != 0 || tag != V_ASN1_INTEGER || n != 1 || *p != 1)
		return NULL;
	p += n;
	if (ASN1_get_object(&p, &n, &tag, &class, end - p) != 0 || tag != V_ASN1_OCTET_STRING)
		return NULL;
	key = EC_KEY_new();
	if (key != NULL && EC_KEY_set_group(key, group) && EC_KEY_oct2priv(key, p, n)) {
		const BIGNUM *scalar = EC_KEY_get0_private_key(key);

		if (!BN_is_zero(scalar) && BN_cmp(scalar, EC_GROUP_get0_order(group)) < 0)
			return key;
	}
	EC_KEY_free(key);
	return NULL;
}

static const EC_GROUP *named_group(const X509_ALGOR *algorithm)
{
	const void *value;
	int type;

	X509_ALGOR_get0(NULL, &type, &value, algorithm);
	if (type != V_ASN1_OBJECT)
		return NULL;
	switch (OBJ_obj2nid(value)) {
	case NID_X9_62_prime256v1:
		return p256;
	case NID_secp384r1:
		return p384;
	}
	return NULL;
}

EVP_PKEY *shim_EVP_PKCS82PKEY(const PKCS8_PRIV_KEY_INFO *info)
{
	const ASN1_OBJECT *oid;
	const X509_ALGOR *algorithm;
	const unsigned char *der;
	const EC_GROUP *group;
	EVP_PKEY *out;
	EC_KEY *ec = NULL;
	RSA *rsa = NULL;
	int len;

	if (!PKCS8_pkey_get0(&oid, &der, &len, &algorithm, info))
		return NULL;
	out = EVP_PKEY_new();
	if (out == NULL)
		return NULL;
	if (OBJ_obj2nid(oid) == NID_X9_62_id_ecPublicKey && (group = named_group(algorithm)) != NULL) {
		ec = read_ec_private(group, der, len);
		if (ec != NULL && EVP_PKEY_assign_EC_KEY(out, ec))
			return out;
	} else if (OBJ_obj2nid(oid) == NID_rsaEncryption) {
		rsa = d2i_RSAPrivateKey(NULL, &der, len);
		if (rsa != NULL && EVP_PKEY_assign_RSA(out, rsa))
			return out;
	} else {
		EVP_PKEY_free(out);
		return EVP_PKCS82PKEY(info);
	}
	EC_KEY_free(ec);
	RSA_free(rsa);
	EVP_PKEY_free(out);
	return NULL;
}
