/*
 * munge_encode in a loop from N threads against a munged of ours: what a site
 * pays today for one credential on the same node.
 *
 * munge SOCKET CONNECTIONS SECONDS
 * prints one line: mode=munge connections=N requests=R rps=X p50_us=Y p99_us=Z
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <munge.h>

static const char *socket_path;
static double seconds;
static pthread_barrier_t ready;

struct client {
	pthread_t thread;
	unsigned *nanoseconds;
	size_t count, room;
	double begun, ended;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void *client(void *arg)
{
	struct client *c = arg;
	munge_ctx_t ctx = munge_ctx_create();
	double last, t;

	if (!ctx || munge_ctx_set(ctx, MUNGE_OPT_SOCKET, socket_path) != EMUNGE_SUCCESS) {
		fprintf(stderr, "munge: cannot make a context\n");
		exit(1);
	}
	pthread_barrier_wait(&ready);
	for (last = c->begun = now(); last < c->begun + seconds; last = t) {
		char *cred;
		munge_err_t err = munge_encode(&cred, ctx, NULL, 0);

		if (err != EMUNGE_SUCCESS) {
			fprintf(stderr, "munge: %s\n", munge_strerror(err));
			exit(1);
		}
		free(cred);
		t = now();
		if (c->count == c->room) {
			c->room = c->room ? 2 * c->room : 1 << 16;
			c->nanoseconds = realloc(c->nanoseconds, c->room * sizeof *c->nanoseconds);
			if (!c->nanoseconds) {
				fprintf(stderr, "munge: out of memory\n");
				exit(1);
			}
		}
		c->nanoseconds[c->count++] = (unsigned)((t - last) * 1e9);
	}
	c->ended = last;
	munge_ctx_destroy(ctx);
	return NULL;
}

static int ascending(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	struct client *clients;
	unsigned *all;
	size_t total = 0, at = 0;
	double begun = 0, ended = 0;
	int n;

	if (argc != 4 || (n = atoi(argv[2])) < 1 || (seconds = atof(argv[3])) <= 0) {
		fprintf(stderr, "usage: munge SOCKET CONNECTIONS SECONDS\n");
		return 2;
	}
	socket_path = argv[1];
	clients = calloc(n, sizeof *clients);
	pthread_barrier_init(&ready, NULL, n);
	for (int i = 0; i < n; i++)
		if (!clients || pthread_create(&clients[i].thread, NULL, client, &clients[i])) {
			fprintf(stderr, "munge: cannot start a thread\n");
			return 1;
		}
	for (int i = 0; i < n; i++) {
		pthread_join(clients[i].thread, NULL);
		total += clients[i].count;
		if (!i || clients[i].begun < begun)
			begun = clients[i].begun;
		if (clients[i].ended > ended)
			ended = clients[i].ended;
	}
	all = malloc(total * sizeof *all);
	if (!all) {
		fprintf(stderr, "munge: out of memory\n");
		return 1;
	}
	for (int i = 0; i < n; i++) {
		memcpy(all + at, clients[i].nanoseconds, clients[i].count * sizeof *all);
		at += clients[i].count;
	}
	qsort(all, total, sizeof *all, ascending);
	printf("mode=munge connections=%d requests=%zu rps=%.0f p50_us=%.1f p99_us=%.1f\n", n, total,
	       total / (ended - begun), all[total / 2] / 1e3, all[total * 99 / 100] / 1e3);
	return 0;
}
