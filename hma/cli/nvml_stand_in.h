/* What the parts of the stand-in for libnvidia-ml.so.1 share: the state file, and the structures of NVML.
 *
 * Structures, struct versions and numbers are those of the public NVML header (nvml.h, CUDA 12 and 13); tests compare them with
 * the definitions of nvidia-ml-py, through which they are read.
 */
#ifndef HMA_NVML_STAND_IN_H
#define HMA_NVML_STAND_IN_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define MAX_GPUS 64
#define NO_LINK (-1)

enum code {
	SUCCESS = 0,
	UNINITIALIZED = 1,
	INVALID_ARGUMENT = 2,
	NOT_SUPPORTED = 3,
	NOT_FOUND = 6,
	INSUFFICIENT_SIZE = 7,
	TIMEOUT = 10,
	CORRUPTED_INFOROM = 14,
	GPU_IS_LOST = 15,
	MEMORY = 20,
	VERSION_MISMATCH = 25,
	UNKNOWN = 999,
};

#define TRY(call)                                                                                                              \
	do {                                                                                                                   \
		int tried = (call);                                                                                            \
		if (tried != SUCCESS)                                                                                          \
			return tried;                                                                                          \
	} while (0)

struct device {
	int number;
};
typedef struct device *Device;

/* -- the state file (nvml_stand_in_state.c) -- */

extern struct device devices[MAX_GPUS];
extern pthread_mutex_t state_lock;

/* The text of a key of the whole library, NULL where there is none. */
const char *text_of(const char *key);
long long number_of(const char *key, long long otherwise);

/* The text of a value of a GPU (of one of its links, unless NO_LINK), or the code that its reading returns. */
int find_value(Device gpu, int link, const char *name, const char **text);

/* -- one value (nvml_stand_in.c) -- */

struct member {
	const char *name;
	unsigned *to;
};

/* The same as a number, or as text that fits into `room` bytes. or_zero and get_all are for structures: a member that the state
 * does not tell is 0, but for the first of get_all. */
int get_number(Device gpu, int link, const char *name, long long *number);
int get_unsigned(Device gpu, const char *name, unsigned *value);
int get_counter(Device gpu, int link, const char *name, unsigned long long *value);
unsigned long long or_zero(Device gpu, const char *name);
int get_all(Device gpu, int count, const struct member *members);
int copy_text(const char *text, char *to, unsigned room);
int get_text(Device gpu, const char *name, char *to, unsigned room);

/* -- GPUs and calls (nvml_stand_in_state.c) -- */

/* The codes by which the GPU as a whole, or a handle for it, is refused; 0 = it answers. */
int gpu_code(Device gpu);
int handle_code(int number);

/* GPUs there are: all slots but those marked `absent`. */
int gpu_count(void);
Device gpu_at(unsigned index);
int index_of(Device gpu);
bool is_device(const void *device);

/* Begin a call: hangs where the state says so, then takes the lock and reads the state anew. Returns 0 with the lock held, or a
 * code with the lock free. `gpu` is NULL in calls that ask no GPU. */
int enter(const char *function, Device gpu);
void leave(void);
int leaving(int code); /* leave, then return the code */

/* Hang where the state says so of this very GPU; for a call that learns only later which one it asks. The lock is held. */
void hang_on(const char *function, Device gpu);

/* Like enter, without the question whether the library was initialised. */
void enter_unready(const char *function);

/* A descriptor that becomes readable when the state may have changed, or -1. */
int state_watch(void);

extern int initialised; /* calls of nvmlInit less those of nvmlShutdown; under the lock */

/* -- structures of NVML -- */

struct pci_info {
	char bus_id_legacy[16];
	unsigned domain, bus, device, device_id, subsystem_id;
	char bus_id[32];
};

struct field_value {
	unsigned id, scope;
	long long timestamp, latency_us;
	int type, code;
	union {
		double d;
		unsigned ui;
		unsigned long ul;
		unsigned long long ull;
		long long sll;
		int si;
		unsigned short us;
	} value;
};

struct sram_status {
	unsigned version;
	unsigned long long aggregate_unc_parity, aggregate_unc_sec_ded, aggregate_cor;
	unsigned long long volatile_unc_parity, volatile_unc_sec_ded, volatile_cor;
	unsigned long long bucket_l2, bucket_sm, bucket_pcie, bucket_mcu, bucket_other;
	unsigned threshold_exceeded;
};

struct remapped_rows_v2 {
	unsigned cor_active, cor_inactive, unc_active, unc_inactive, pending, failure;
};

struct remap_histogram {
	unsigned max, high, partial, low, none;
};

struct repair_status {
	unsigned version, channel_pending, tpc_pending;
};

struct versioned_unsigned {
	unsigned version, value;
};

struct versioned_int {
	unsigned version;
	int value;
};

struct temperature {
	unsigned version;
	int sensor;
	int degrees;
};

struct fabric_info {
	unsigned char cluster[16];
	int status;
	unsigned clique;
	unsigned char state;
};

/* Version 2 ends with the mask. */
struct fabric_info_v3 {
	unsigned version;
	unsigned char cluster[16];
	int status;
	unsigned clique;
	unsigned char state;
	unsigned health_mask;
	unsigned char summary;
};

struct memory {
	unsigned long long total, free, used;
};

struct memory_v2 {
	unsigned version;
	unsigned long long total, reserved, free, used;
};

struct process {
	unsigned pid;
	unsigned long long used;
	unsigned gpu_instance, compute_instance;
};

struct event {
	Device device;
	unsigned long long type, data;
	unsigned gpu_instance, compute_instance;
};

#define VERSION(structure, number) ((unsigned)(sizeof(structure) | ((unsigned)(number) << 24)))
#define NOT_AVAILABLE (~0ULL)
#define NO_INSTANCE (~0U)

#endif
