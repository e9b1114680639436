/* The part of the stand-in that tells events: lines of a named pipe (or a file) that HMA_NVML_STAND_IN_EVENTS names.
 *
 * `3 8 79` is XID 79 of GPU 3 (its slot), `3 0x8 13 1 0` one of a MIG instance. As with the real library an event reaches the sets
 * that exist when it comes and asked for its type on its GPU, and a set with a lost GPU waits no more: it fails at once, each time.
 */
#define _GNU_SOURCE
#include "nvml_stand_in.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_SETS 16
#define QUEUE 256
#define LINE 128

struct set {
	bool used;
	unsigned long long types[MAX_GPUS];
	struct event queue[QUEUE];
	unsigned first, count;
};

/* All under state_lock. */
static struct set sets[MAX_SETS];
static int source = -1, watch = -1;
static char line[LINE];
static size_t line_length;

static void open_source(void)
{
	const char *path = getenv("HMA_NVML_STAND_IN_EVENTS");
	struct stat kind;
	if (watch < 0)
		watch = state_watch();
	if (source >= 0 || path == NULL || stat(path, &kind) != 0)
		return;
	/* For writing as well: such a pipe has no end, whoever comes and goes. */
	source = open(path, (S_ISFIFO(kind.st_mode) ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_CLOEXEC);
	if (!S_ISFIFO(kind.st_mode) && watch >= 0)
		inotify_add_watch(watch, path, IN_MODIFY);
}

EXPORT int nvmlEventSetCreate(struct set **to)
{
	TRY(enter("nvmlEventSetCreate", NULL));
	for (struct set *set = sets; set < sets + MAX_SETS; set++) {
		if (set->used)
			continue;
		memset(set, 0, sizeof *set);
		set->used = true;
		open_source();
		*to = set;
		return leaving(SUCCESS);
	}
	return leaving(MEMORY);
}

static bool is_set(const struct set *set)
{
	return set >= sets && set < sets + MAX_SETS && set->used;
}

EXPORT int nvmlEventSetFree(struct set *set)
{
	TRY(enter("nvmlEventSetFree", NULL));
	if (!is_set(set))
		return leaving(INVALID_ARGUMENT);
	set->used = false;
	return leaving(SUCCESS);
}

EXPORT int nvmlDeviceRegisterEvents(Device gpu, unsigned long long types, struct set *set)
{
	unsigned long long supported = 0;
	TRY(enter("nvmlDeviceRegisterEvents", gpu));
	int code = is_set(set) ? get_counter(gpu, NO_LINK, "events", &supported) : INVALID_ARGUMENT;
	if (code == SUCCESS && (types & ~supported) != 0)
		code = NOT_SUPPORTED;
	if (code == SUCCESS)
		set->types[gpu->number] |= types;
	return leaving(code);
}

static void deliver(const char *text)
{
	unsigned number, gi = NO_INSTANCE, ci = NO_INSTANCE;
	long long type, data;
	if (sscanf(text, "%u %lli %lli %u %u", &number, &type, &data, &gi, &ci) < 3 || number >= MAX_GPUS)
		return;
	struct event event = {&devices[number], (unsigned long long)type, (unsigned long long)data, gi, ci};
	for (struct set *set = sets; set < sets + MAX_SETS; set++)
		if (set->used && (set->types[number] & event.type) && set->count < QUEUE)
			set->queue[(set->first + set->count++) % QUEUE] = event;
}

static void read_source(void)
{
	char byte;
	while (source >= 0 && read(source, &byte, 1) == 1) {
		if (byte != '\n') {
			if (line_length < LINE - 1)
				line[line_length++] = byte;
			continue;
		}
		line[line_length] = '\0';
		line_length = 0;
		deliver(line);
	}
}

/* The next event, or why there is none: TIMEOUT = not yet. */
static int take(struct set *set, struct event *to)
{
	if (!is_set(set))
		return INVALID_ARGUMENT;
	read_source();
	if (set->count > 0) {
		*to = set->queue[set->first];
		set->first = (set->first + 1) % QUEUE;
		set->count--;
		return SUCCESS;
	}
	for (int number = 0; number < MAX_GPUS; number++)
		if (set->types[number] && gpu_code(&devices[number]) == GPU_IS_LOST)
			return GPU_IS_LOST;
	return TIMEOUT;
}

static long long now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Sleep until there may be something new; a signal ends no wait. Whoever waits on another set could read our event for us: then a
 * short sleep is the longest. */
static void sleep_ms(long long rest)
{
	char drained[4096];
	int others = -1;
	struct pollfd ends[2] = {{source, POLLIN, 0}, {watch, POLLIN, 0}};
	struct stat kind;
	for (struct set *set = sets; set < sets + MAX_SETS; set++)
		others += set->used;
	if (source >= 0 && fstat(source, &kind) == 0 && !S_ISFIFO(kind.st_mode))
		ends[0].fd = -1; /* a file is always readable; the watch tells when it has grown */
	leave();
	if (poll(ends, 2, others > 0 && rest > 100 ? 100 : rest > INT_MAX ? INT_MAX : (int)rest) > 0 && ends[1].revents)
		while (read(ends[1].fd, drained, sizeof drained) > 0)
			;
}

EXPORT int nvmlEventSetWait_v2(struct set *set, struct event *to, unsigned timeout_ms)
{
	long long end = now_ms() + timeout_ms;
	for (;;) {
		TRY(enter("nvmlEventSetWait_v2", NULL));
		int code = take(set, to);
		long long rest = end - now_ms();
		if (code != TIMEOUT || rest <= 0)
			return leaving(code);
		sleep_ms(rest);
	}
}
