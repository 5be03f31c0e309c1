/*
 * Stands between miekg/pkcs11, which loads a PKCS#11 module with dlopen, and the SoftHSM2 that is linked into the same static binary.
 * The linker (--wrap) sends every dlopen, dlsym, dlclose and dlerror here; "builtin:softhsm2" is the only module there is.
 *
 * Three functions of glibc that a static binary cannot call safely (they load NSS modules) answer that they know nothing. SoftHSM2 asks
 * for a home folder only when SOFTHSM2_CONF is not set, which the token package always sets; Go resolves names itself (netgo, osusergo).
 */
#include <dlfcn.h>
#include <netdb.h>
#include <pwd.h>
#include <stddef.h>
#include <string.h>

#include <openssl/crypto.h>

extern unsigned long C_GetFunctionList(void **list);
extern void shim_prepare_groups(void); /* keys.c */

static const char module_path[] = "builtin:softhsm2";
static char module_handle;
static __thread const char *last_error;

/* The host's openssl.cnf does not concern the library inside: a FIPS-only one makes a right PIN wrong. */
__attribute__((constructor)) static void prepare_openssl(void)
{
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	shim_prepare_groups();
}

void *__wrap_dlopen(const char *path, int flags)
{
	(void)flags;
	if (path != NULL && strcmp(path, module_path) == 0) {
		last_error = NULL;
		return &module_handle;
	}
	last_error = "this build has SoftHSM2 inside and loads no other module";
	return NULL;
}

void *__wrap_dlsym(void *handle, const char *name)
{
	if (handle == &module_handle && strcmp(name, "C_GetFunctionList") == 0) {
		last_error = NULL;
		return (void *)C_GetFunctionList;
	}
	last_error = "no such symbol in this build";
	return NULL;
}

int __wrap_dlclose(void *handle)
{
	return handle == &module_handle ? 0 : -1;
}

char *__wrap_dlerror(void)
{
	const char *e = last_error;
	last_error = NULL;
	return (char *)e;
}

int __wrap_getpwuid_r(uid_t uid, struct passwd *pw, char *buf, size_t len, struct passwd **result)
{
	(void)uid, (void)pw, (void)buf, (void)len;
	*result = NULL;
	return 0;
}

int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
	(void)node, (void)service, (void)hints, (void)res;
	return EAI_FAIL;
}

struct hostent *__wrap_gethostbyname(const char *name)
{
	(void)name;
	return NULL;
}
