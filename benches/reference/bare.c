/*
 * The bare signer: what a token server costs when it does nothing but sign.
 *
 * It speaks the frames of the daemon (one JSON line in, one JSON line out, on a
 * Unix stream socket) but reads no JSON, knows no caller, keeps no policy and
 * writes no record. It signs a token of the same shape with libcrypto and
 * answers. Threads accept, read and answer until the peer closes: the plainest
 * arrangement there is, and on a local socket about the fastest.
 *
 * bare SOCKET HS256|RS256 KEYFILE THREADS
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#define USER "alice"
#define KID "bench"
#define LIFESPAN 600
#define MAX_REQUEST 16384

enum alg { HS256, RS256 };

static int listener;
static enum alg alg;
static unsigned char key_bytes[16384];
static size_t key_len;
static char header_b64[128];
static size_t header_len;

/* One signer a thread: no lock, and RSA's blinding is not shared. */
struct signer {
	EVP_MAC_CTX *mac;
	EVP_PKEY_CTX *rsa;
	unsigned long long jti_high, jti_low;
};

static void die(const char *what)
{
	fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void check(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "bare: libcrypto: %s failed\n", what);
		exit(1);
	}
}

static size_t base64url(char *out, const unsigned char *in, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	char *o = out;

	for (; len >= 3; in += 3, len -= 3) {
		unsigned v = in[0] << 16 | in[1] << 8 | in[2];
		*o++ = digits[v >> 18];
		*o++ = digits[v >> 12 & 63];
		*o++ = digits[v >> 6 & 63];
		*o++ = digits[v & 63];
	}
	if (len) {
		unsigned v = in[0] << 16 | (len > 1 ? in[1] << 8 : 0);
		*o++ = digits[v >> 18];
		*o++ = digits[v >> 12 & 63];
		if (len > 1)
			*o++ = digits[v >> 6 & 63];
	}
	return o - out;
}

static void signer_init(struct signer *s)
{
	/* Unique for this run: a random start, then a count. */
	check(getrandom(&s->jti_high, sizeof s->jti_high, 0) == sizeof s->jti_high,
	      "getrandom");
	s->jti_low = 0;

	if (alg == HS256) {
		OSSL_PARAM params[] = {
			OSSL_PARAM_construct_utf8_string("digest", "SHA256", 0),
			OSSL_PARAM_construct_end(),
		};
		EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
		check(hmac != NULL, "EVP_MAC_fetch");
		s->mac = EVP_MAC_CTX_new(hmac);
		check(s->mac && EVP_MAC_init(s->mac, key_bytes, key_len, params) == 1,
		      "EVP_MAC_init");
	} else {
		BIO *bio = BIO_new_mem_buf(key_bytes, (int)key_len);
		EVP_PKEY *pkey = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
		check(pkey != NULL, "PEM_read_bio_PrivateKey");
		s->rsa = EVP_PKEY_CTX_new(pkey, NULL);
		check(s->rsa && EVP_PKEY_sign_init(s->rsa) == 1 &&
		      EVP_PKEY_CTX_set_rsa_padding(s->rsa, RSA_PKCS1_PADDING) == 1 &&
		      EVP_PKEY_CTX_set_signature_md(s->rsa, EVP_sha256()) == 1,
		      "EVP_PKEY_sign_init");
		BIO_free(bio);
	}
}

static size_t sign(struct signer *s, const char *input, size_t len, unsigned char *sig,
		   size_t room)
{
	size_t out = room;

	if (alg == HS256) {
		/* No key given: the context starts afresh with the one it has. */
		check(EVP_MAC_init(s->mac, NULL, 0, NULL) == 1 &&
		      EVP_MAC_update(s->mac, (const unsigned char *)input, len) == 1 &&
		      EVP_MAC_final(s->mac, sig, &out, room) == 1, "HMAC");
	} else {
		unsigned char digest[EVP_MAX_MD_SIZE];
		unsigned digest_len;
		check(EVP_Digest(input, len, digest, &digest_len, EVP_sha256(), NULL) == 1 &&
		      EVP_PKEY_sign(s->rsa, sig, &out, digest, digest_len) == 1, "RSA");
	}
	return out;
}

static size_t answer(struct signer *s, char *out, size_t room)
{
	char claims[256], token[2048];
	unsigned char sig[1024];
	char jti[33];
	long long now = time(NULL);
	size_t len, n;

	s->jti_low++;
	snprintf(jti, sizeof jti, "%016llx%016llx", s->jti_high, s->jti_low);

	n = snprintf(claims, sizeof claims,
		     "{\"iat\":%lld,\"nbf\":%lld,\"exp\":%lld,\"jti\":\"%s\",\"sun\":\"" USER "\"}",
		     now, now, now + LIFESPAN, jti);
	memcpy(token, header_b64, header_len);
	len = header_len;
	token[len++] = '.';
	len += base64url(token + len, (unsigned char *)claims, n);
	n = sign(s, token, len, sig, sizeof sig);
	token[len++] = '.';
	len += base64url(token + len, sig, n);

	return snprintf(out, room,
			"{\"v\":1,\"ok\":{\"token\":\"%.*s\",\"user\":\"" USER "\",\"expires_at\":%lld,"
			"\"kid\":\"" KID "\",\"jti\":\"%s\"}}\n",
			(int)len, token, now + LIFESPAN, jti);
}

static void serve(struct signer *s, int fd)
{
	char request[MAX_REQUEST], response[4096];
	size_t have = 0;

	for (;;) {
		ssize_t n = recv(fd, request + have, sizeof request - have, 0);
		if (n <= 0)
			return;
		have += n;
		for (char *end; (end = memchr(request, '\n', have)) != NULL;) {
			size_t used = end + 1 - request;
			size_t len = answer(s, response, sizeof response);
			if (send(fd, response, len, MSG_NOSIGNAL) != (ssize_t)len)
				return;
			have -= used;
			memmove(request, request + used, have);
		}
		if (have == sizeof request)
			return;
	}
}

static void *worker(void *unused)
{
	struct signer s;

	signer_init(&s);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			die("accept");
		}
		serve(&s, fd);
		close(fd);
	}
	return unused;
}

int main(int argc, char **argv)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char header[96];
	FILE *key;
	int threads;

	if (argc != 5 || strlen(argv[1]) >= sizeof addr.sun_path ||
	    (strcmp(argv[2], "HS256") && strcmp(argv[2], "RS256")) ||
	    (threads = atoi(argv[4])) < 1) {
		fprintf(stderr, "usage: bare SOCKET HS256|RS256 KEYFILE THREADS\n");
		return 2;
	}
	alg = strcmp(argv[2], "HS256") ? RS256 : HS256;
	if (!(key = fopen(argv[3], "rb")))
		die(argv[3]);
	key_len = fread(key_bytes, 1, sizeof key_bytes, key);
	fclose(key);
	header_len = base64url(header_b64, (unsigned char *)header,
			       snprintf(header, sizeof header,
					"{\"alg\":\"%s\",\"typ\":\"JWT\",\"kid\":\"" KID "\"}", argv[2]));

	strcpy(addr.sun_path, argv[1]);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&addr, sizeof addr) < 0 ||
	    listen(listener, SOMAXCONN) < 0)
		die(argv[1]);

	for (int i = 1; i < threads; i++) {
		pthread_t t;
		if ((errno = pthread_create(&t, NULL, worker, NULL)))
			die("pthread_create");
	}
	worker(NULL);
	return 0;
}
