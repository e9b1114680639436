/* The state of the stand-in: a text file, read again whenever it was replaced, and the calls that it lets hang.
 *
 * Keys and values are described in nvml_stand_in.py. `*` stands for every GPU, and for every link; the nearer key wins:
 * gpu.3.nvlink.5.state, gpu.3.nvlink.*.state, gpu.*.nvlink.5.state, gpu.*.nvlink.*.state.
 */
#define _GNU_SOURCE
#include "nvml_stand_in.h"

#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define KEY 96

struct entry {
	const char *key, *text;
};

struct device devices[MAX_GPUS];
pthread_mutex_t state_lock = PTHREAD_MUTEX_INITIALIZER;
int initialised;

static struct entry *entries;
static size_t entry_count;
static char *content;
static struct stat read_as;

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

static char *trimmed(char *text)
{
	char *end = text + strlen(text);
	while (isspace((unsigned char)*text))
		text++;
	while (end > text && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return text;
}

static void forget(void)
{
	free(entries);
	free(content);
	entries = NULL;
	content = NULL;
	entry_count = 0;
}

static void parse(void)
{
	size_t room = 0;
	char *rest = content, *line, *equals;
	while ((line = strsep(&rest, "\n")) != NULL) {
		if (*trimmed(line) == '#' || (equals = strchr(line, '=')) == NULL)
			continue;
		if (entry_count == room) {
			room = room ? 2 * room : 256;
			entries = reallocarray(entries, room, sizeof *entries);
			if (entries == NULL)
				abort();
		}
		*equals = '\0';
		entries[entry_count++] = (struct entry){trimmed(line), trimmed(equals + 1)};
	}
	if (entry_count)
		qsort(entries, entry_count, sizeof *entries, by_key);
}

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static const char *state_path(void)
{
	const char *path = getenv("HMA_NVML_STAND_IN");
	return path ? path : "";
}

/* Read the state again where its file was replaced. A file that is gone leaves nothing: no GPU, nothing supported. */
static void refresh(void)
{
	struct stat now;
	if (stat(state_path(), &now) != 0) {
		forget();
		memset(&read_as, 0, sizeof read_as);
		return;
	}
	if (same(&now, &read_as))
		return;
	FILE *file = fopen(state_path(), "re");
	if (file == NULL)
		return;
	fstat(fileno(file), &now);
	forget();
	content = calloc(1, (size_t)now.st_size + 1);
	if (content == NULL || fread(content, 1, (size_t)now.st_size, file) != (size_t)now.st_size)
		abort();
	fclose(file);
	read_as = now;
	parse();
}

const char *text_of(const char *key)
{
	struct entry wanted = {key, NULL}, *found = NULL;
	if (entry_count)
		found = bsearch(&wanted, entries, entry_count, sizeof *entries, by_key);
	return found ? found->text : NULL;
}

long long number_of(const char *key, long long otherwise)
{
	const char *text = text_of(key);
	return text && *text ? strtoll(text, NULL, 0) : otherwise;
}

/* -- values of a GPU -- */

/* `whose` is a number, or negative for every one. */
static void name_one(char *at, size_t room, int whose)
{
	if (whose < 0)
		snprintf(at, room, "*");
	else
		snprintf(at, room, "%d", whose);
}

static const char *value_at(int gpu, int link, bool linked, const char *name, const char *suffix)
{
	char key[KEY], number[12], link_number[12];
	name_one(number, sizeof number, gpu);
	name_one(link_number, sizeof link_number, link);
	if (linked)
		snprintf(key, sizeof key, "gpu.%s.nvlink.%s.%s%s", number, link_number, name, suffix);
	else
		snprintf(key, sizeof key, "gpu.%s.%s%s", number, name, suffix);
	return text_of(key);
}

static const char *nearest(int gpu, int link, const char *name, const char *suffix)
{
	const char *text = value_at(gpu, link, link != NO_LINK, name, suffix);
	return text == NULL && link != NO_LINK ? value_at(gpu, -1, true, name, suffix) : text;
}

static int code_of(int number, const char *name)
{
	const char *text = nearest(number, NO_LINK, name, "");
	if (text == NULL)
		text = nearest(-1, NO_LINK, name, "");
	return text ? atoi(text) : SUCCESS;
}

int gpu_code(Device gpu)
{
	return code_of(gpu->number, "code");
}

int handle_code(int number)
{
	return code_of(number, "handle_code");
}

int find_value(Device gpu, int link, const char *name, const char **text)
{
	/* A code for this one value of this one GPU comes before the code of the GPU: a lost GPU may still tell its address. */
	const char *code = nearest(gpu->number, link, name, ".code");
	if (code != NULL && atoi(code) != SUCCESS)
		return atoi(code);
	if (code == NULL && gpu_code(gpu) != SUCCESS)
		return gpu_code(gpu);
	*text = nearest(gpu->number, link, name, "");
	if (*text != NULL)
		return SUCCESS;
	if (code == NULL && (code = nearest(-1, link, name, ".code")) != NULL && atoi(code) != SUCCESS)
		return atoi(code);
	*text = nearest(-1, link, name, "");
	return *text ? SUCCESS : NOT_SUPPORTED;
}

static bool absent(int number)
{
	const char *text = value_at(number, NO_LINK, false, "absent", "");
	return text != NULL && atoi(text) != 0;
}

static int slots(void)
{
	long long count = number_of("gpus", 0);
	return count < 0 ? 0 : count > MAX_GPUS ? MAX_GPUS : (int)count;
}

int gpu_count(void)
{
	int count = 0;
	for (int number = 0; number < slots(); number++)
		count += !absent(number);
	return count;
}

Device gpu_at(unsigned index)
{
	for (int number = 0; number < slots(); number++)
		if (!absent(number) && index-- == 0)
			return &devices[number];
	return NULL;
}

int index_of(Device gpu)
{
	int index = 0;
	for (int number = 0; number < gpu->number; number++)
		index += !absent(number);
	return index;
}

bool is_device(const void *device)
{
	return (const struct device *)device >= devices && (const struct device *)device < devices + MAX_GPUS;
}

/* -- calls -- */

static bool named(const char *function, const char *list)
{
	size_t length = strlen(function);
	for (const char *at = list; (at = strstr(at, function)) != NULL; at += length)
		if ((at == list || strchr(", ", at[-1])) && (at[length] == '\0' || strchr(", ", at[length])))
			return true;
	return false;
}

static bool hangs(const char *function, Device gpu)
{
	const char *list = text_of("hang");
	if (list == NULL || !named(function, list))
		return false;
	return text_of("hang_gpu") == NULL || (is_device(gpu) && gpu->number == number_of("hang_gpu", -1));
}

/* Write to a file until it takes it: on a frozen disk that is a real sleep in state D, which ends with the frost. */
static void write_out(const char *path)
{
	int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (file < 0)
		return;
	if (write(file, "\n", 1) == 1)
		fsync(file);
	close(file);
}

/* Sleep as long as the state says so; only SIGKILL ends it before. A state file that is gone ends the process, for there is nobody
 * left who could. Called and left with the lock held. */
static void hang(const char *function, Device gpu)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	while (hangs(function, gpu)) {
		const char *path = text_of("hang_path");
		char *frozen = path ? strdup(path) : NULL;
		pthread_mutex_unlock(&state_lock);
		if (frozen != NULL)
			write_out(frozen);
		free(frozen);
		if (path != NULL) {
			pthread_mutex_lock(&state_lock);
			break;
		}
		nanosleep(&(struct timespec){0, 50000000}, NULL);
		if (access(state_path(), F_OK) != 0)
			_exit(70);
		pthread_mutex_lock(&state_lock);
		refresh();
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static __attribute__((constructor)) void number_devices(void)
{
	for (int number = 0; number < MAX_GPUS; number++)
		devices[number].number = number;
}

void hang_on(const char *function, Device gpu)
{
	if (gpu != NULL && text_of("hang_gpu") != NULL && hangs(function, gpu))
		hang(function, gpu);
}

static void begin(const char *function, Device gpu)
{
	pthread_mutex_lock(&state_lock);
	refresh();
	if (hangs(function, gpu))
		hang(function, gpu);
}

void enter_unready(const char *function)
{
	begin(function, NULL);
}

int enter(const char *function, Device gpu)
{
	begin(function, gpu);
	int code = initialised ? (int)number_of("code", SUCCESS) : UNINITIALIZED;
	if (code == SUCCESS && gpu != NULL && !is_device(gpu))
		code = INVALID_ARGUMENT;
	if (code != SUCCESS)
		leave();
	return code;
}

void leave(void)
{
	pthread_mutex_unlock(&state_lock);
}

int leaving(int code)
{
	leave();
	return code;
}

int state_watch(void)
{
	char folder[4096];
	snprintf(folder, sizeof folder, "%s", state_path());
	char *slash = strrchr(folder, '/');
	snprintf(slash ? slash + (slash == folder) : folder, 2, "%s", slash ? "" : ".");
	int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (watch >= 0)
		inotify_add_watch(watch, folder, IN_MOVED_TO | IN_CLOSE_WRITE);
	return watch;
}
