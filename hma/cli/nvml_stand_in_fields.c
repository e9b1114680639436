/* The part of the stand-in that tells values by field number, NVLinks, the fabric and processes. */
#include "nvml_stand_in.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum type { DOUBLE, UINT, ULONG, ULONGLONG, SLONGLONG, SINT, USHORT };

struct field {
	unsigned id;
	enum type type;
	enum { OF_GPU, BY_SCOPE, SUM } links;
	const char *name; /* as in the state file; below `nvlink.N.` unless OF_GPU */
};

/* Sorted by number. Types are such as an implementation would choose (counters wide, states narrow, T.Limit signed); a reader has
 * to look at the type, and the state can change it: `field.230.type = 3`. */
static const struct field fields[] = {
	{1, UINT, OF_GPU, "ecc.enabled"},
	{2, UINT, OF_GPU, "ecc.pending"},
	{3, ULONGLONG, OF_GPU, "ecc.volatile.corrected"},
	{4, ULONGLONG, OF_GPU, "ecc.volatile.uncorrected"},
	{5, ULONGLONG, OF_GPU, "ecc.aggregate.corrected"},
	{6, ULONGLONG, OF_GPU, "ecc.aggregate.uncorrected"},
	{29, UINT, OF_GPU, "retired.corrected"},
	{30, UINT, OF_GPU, "retired.uncorrected"},
	{31, UINT, OF_GPU, "retired.pending"},
	{38, ULONGLONG, SUM, "crc_flit"},
	{45, ULONGLONG, SUM, "crc_data"},
	{52, ULONGLONG, SUM, "replay"},
	{59, ULONGLONG, SUM, "recovery"},
	{74, ULONGLONG, OF_GPU, "clocks.power_ns"},
	{75, ULONGLONG, OF_GPU, "clocks.thermal_ns"},
	{82, UINT, OF_GPU, "temperature_memory"},
	{91, UINT, OF_GPU, "nvlink.count"},
	{92, UINT, OF_GPU, "retired.pending_corrected"},
	{93, UINT, OF_GPU, "retired.pending_uncorrected"},
	{94, UINT, OF_GPU, "pcie.replays"},
	{95, UINT, OF_GPU, "pcie.replay_rollover"},
	{142, UINT, OF_GPU, "remap.corrected"},
	{143, UINT, OF_GPU, "remap.uncorrected"},
	{144, UINT, OF_GPU, "remap.pending"},
	{145, UINT, OF_GPU, "remap.failed"},
	{160, ULONGLONG, SUM, "ecc"},
	{161, ULONGLONG, BY_SCOPE, "replay"},
	{162, ULONGLONG, BY_SCOPE, "recovery"},
	{163, ULONGLONG, BY_SCOPE, "crc_flit"},
	{164, UINT, BY_SCOPE, "speed_mbps"},
	{165, UINT, BY_SCOPE, "state"},
	{166, UINT, BY_SCOPE, "version"},
	{173, UINT, OF_GPU, "pcie.correctable"},
	{179, UINT, OF_GPU, "pcie.non_fatal"},
	{180, UINT, OF_GPU, "pcie.fatal"},
	{185, UINT, OF_GPU, "power_mw"},
	{186, UINT, OF_GPU, "power_mw"},
	{189, UINT, OF_GPU, "power_default_mw"},
	{190, UINT, OF_GPU, "power_limit_mw"},
	{193, SINT, OF_GPU, "tlimit.shutdown"},
	{194, SINT, OF_GPU, "tlimit.slowdown"},
	{195, SINT, OF_GPU, "tlimit.memory_max"},
	{196, SINT, OF_GPU, "tlimit.gpu_max"},
	{206, ULONGLONG, BY_SCOPE, "malformed_packets"},
	{207, ULONGLONG, BY_SCOPE, "buffer_overruns"},
	{208, ULONGLONG, BY_SCOPE, "receive_errors"},
	{209, ULONGLONG, BY_SCOPE, "receive_remote_errors"},
	{210, ULONGLONG, BY_SCOPE, "receive_general_errors"},
	{211, ULONGLONG, BY_SCOPE, "integrity_errors"},
	{212, ULONGLONG, BY_SCOPE, "transmit_discards"},
	{213, ULONGLONG, BY_SCOPE, "recovery_ok"},
	{214, ULONGLONG, BY_SCOPE, "recovery_failed"},
	{215, ULONGLONG, BY_SCOPE, "recovery_events"},
	{219, ULONGLONG, BY_SCOPE, "effective_errors"},
	{220, ULONGLONG, BY_SCOPE, "effective_ber"},
	{221, ULONGLONG, BY_SCOPE, "symbol_errors"},
	{222, ULONGLONG, BY_SCOPE, "symbol_ber"},
	{226, UINT, OF_GPU, "reset_required"},
	{227, UINT, OF_GPU, "drain_and_reset"},
	{230, UINT, OF_GPU, "recovery_action"},
	{269, ULONGLONG, OF_GPU, "clocks.sw_thermal_ns"},
	{270, ULONGLONG, OF_GPU, "clocks.hw_thermal_ns"},
	{271, ULONGLONG, OF_GPU, "clocks.hw_brake_ns"},
};

#define FIELDS_END 308 /* NVML_FI_MAX of the newest header; older drivers: `fields_end` */

static int by_id(const void *id, const void *field)
{
	unsigned one = *(const unsigned *)id, other = ((const struct field *)field)->id;
	return one < other ? -1 : one > other;
}

/* -- NVLink -- */

static int check_link(Device gpu, unsigned link)
{
	unsigned count = 0;
	TRY(get_unsigned(gpu, "nvlink.count", &count));
	return count == 0 ? NOT_SUPPORTED : link < count ? SUCCESS : INVALID_ARGUMENT;
}

static int link_counter(Device gpu, unsigned link, const char *name, unsigned long long *value)
{
	TRY(check_link(gpu, link));
	return get_counter(gpu, (int)link, name, value);
}

static int link_sum(Device gpu, const char *name, unsigned long long *sum)
{
	unsigned count = 0;
	unsigned long long value = 0;
	*sum = 0;
	TRY(get_unsigned(gpu, "nvlink.count", &count));
	for (unsigned link = 0; link < count; link++, *sum += value)
		TRY(link_counter(gpu, link, name, &value));
	return count ? SUCCESS : NOT_SUPPORTED;
}

static int link_unsigned(const char *function, Device gpu, unsigned link, const char *name, unsigned *value)
{
	unsigned long long wide = 0;
	TRY(enter(function, gpu));
	int code = link_counter(gpu, link, name, &wide);
	*value = (unsigned)wide;
	return leaving(code);
}

EXPORT int nvmlDeviceGetNvLinkState(Device gpu, unsigned link, unsigned *state)
{
	return link_unsigned("nvmlDeviceGetNvLinkState", gpu, link, "state", state);
}

EXPORT int nvmlDeviceGetNvLinkVersion(Device gpu, unsigned link, unsigned *version)
{
	return link_unsigned("nvmlDeviceGetNvLinkVersion", gpu, link, "version", version);
}

EXPORT int nvmlDeviceGetNvLinkErrorCounter(Device gpu, unsigned link, unsigned counter, unsigned long long *value)
{
	static const char *const names[] = {"replay", "recovery", "crc_flit", "crc_data", "ecc"};
	TRY(enter("nvmlDeviceGetNvLinkErrorCounter", gpu));
	return leaving(counter < 5 ? link_counter(gpu, link, names[counter], value) : INVALID_ARGUMENT);
}

/* -- fields -- */

static int read_field(Device gpu, const struct field *field, unsigned scope, long long *number)
{
	unsigned long long count = 0;
	if (field->links == OF_GPU)
		return get_number(gpu, NO_LINK, field->name, number);
	TRY(field->links == SUM ? link_sum(gpu, field->name, &count) : link_counter(gpu, scope, field->name, &count));
	*number = (long long)count;
	return SUCCESS;
}

static enum type type_of(const struct field *field)
{
	char key[32];
	snprintf(key, sizeof key, "field.%u.type", field->id);
	return (enum type)number_of(key, (long long)field->type);
}

static void set_value(struct field_value *value, enum type type, long long number)
{
	value->type = (int)type;
	memset(&value->value, 0xA5, sizeof value->value); /* who reads the wrong member must not be right by chance */
	switch (type) {
	case DOUBLE: value->value.d = (double)number; break;
	case UINT: value->value.ui = (unsigned)number; break;
	case ULONG: value->value.ul = (unsigned long)number; break;
	case ULONGLONG: value->value.ull = (unsigned long long)number; break;
	case SLONGLONG: value->value.sll = number; break;
	case SINT: value->value.si = (int)number; break;
	case USHORT: value->value.us = (unsigned short)number; break;
	}
}

static void fill(Device gpu, struct field_value *value)
{
	struct timespec now;
	long long number = 0;
	const struct field *field = bsearch(&value->id, fields, sizeof fields / sizeof *fields, sizeof *fields, by_id);
	bool known = value->id > 0 && value->id < (unsigned)number_of("fields_end", FIELDS_END);
	clock_gettime(CLOCK_REALTIME, &now);
	value->timestamp = now.tv_sec * 1000000LL + now.tv_nsec / 1000;
	value->latency_us = 1;
	value->code = !known ? INVALID_ARGUMENT : field ? read_field(gpu, field, value->scope, &number) : NOT_SUPPORTED;
	if (value->code == SUCCESS)
		set_value(value, type_of(field), number);
}

EXPORT int nvmlDeviceGetFieldValues(Device gpu, int count, struct field_value *values)
{
	TRY(enter("nvmlDeviceGetFieldValues", gpu));
	int code = values == NULL || count < 1 ? INVALID_ARGUMENT : gpu_code(gpu);
	for (int i = 0; code == SUCCESS && i < count; i++)
		fill(gpu, &values[i]);
	return leaving(code);
}

/* -- fabric -- */

/* 32 hexadecimal digits, dashes or not, as the state file has them. */
static void read_cluster(const char *text, unsigned char cluster[16])
{
	int digits = 0;
	memset(cluster, 0, 16);
	for (; *text && digits < 32; text++) {
		if (*text == '-')
			continue;
		char digit[2] = {*text, '\0'};
		cluster[digits / 2] = (unsigned char)(cluster[digits / 2] << 4 | strtol(digit, NULL, 16));
		digits++;
	}
}

static int read_fabric(Device gpu, struct fabric_info *info)
{
	const char *cluster;
	unsigned state, status;
	TRY(get_all(gpu, 3, (struct member[]){{"fabric.state", &state}, {"fabric.status", &status}, {"fabric.clique", &info->clique}}));
	info->state = (unsigned char)state;
	info->status = (int)status;
	read_cluster(find_value(gpu, NO_LINK, "fabric.cluster", &cluster) == SUCCESS ? cluster : "", info->cluster);
	return SUCCESS;
}

EXPORT int nvmlDeviceGetGpuFabricInfo(Device gpu, struct fabric_info *info)
{
	TRY(enter("nvmlDeviceGetGpuFabricInfo", gpu));
	return leaving(read_fabric(gpu, info));
}

/* `fabric_version` is the newest version of the structure that the driver knows: 2 from 550 on, 3 from 580 on. */
EXPORT int nvmlDeviceGetGpuFabricInfoV(Device gpu, struct fabric_info_v3 *info)
{
	struct fabric_info basic;
	TRY(enter("nvmlDeviceGetGpuFabricInfoV", gpu));
	bool third = info->version == VERSION(struct fabric_info_v3, 3) && number_of("fabric_version", 3) >= 3;
	bool second = info->version == (offsetof(struct fabric_info_v3, summary) | 2U << 24);
	int code = second || third ? read_fabric(gpu, &basic) : VERSION_MISMATCH;
	if (code != SUCCESS)
		return leaving(code);
	memcpy(info->cluster, basic.cluster, sizeof basic.cluster);
	info->status = basic.status;
	info->clique = basic.clique;
	info->state = basic.state;
	info->health_mask = (unsigned)or_zero(gpu, "fabric.health_mask");
	if (third)
		info->summary = (unsigned char)or_zero(gpu, "fabric.summary");
	return leaving(SUCCESS);
}

/* -- processes -- */

/* `4711:1073741824 4712:-`: process ids, each with the bytes it uses, or - where the driver cannot tell. */
static unsigned read_processes(const char *text, struct process *to, unsigned room)
{
	unsigned count = 0, pid;
	char used[32];
	for (int length = 0; sscanf(text, " %u:%31s%n", &pid, used, &length) == 2; text += length, count++)
		if (count < room)
			to[count] = (struct process){pid, *used == '-' ? NOT_AVAILABLE : strtoull(used, NULL, 0), NO_INSTANCE,
						     NO_INSTANCE};
	return count;
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(Device gpu, unsigned *count, struct process *to)
{
	const char *text;
	TRY(enter("nvmlDeviceGetComputeRunningProcesses_v3", gpu));
	int code = find_value(gpu, NO_LINK, "processes", &text);
	if (code != SUCCESS)
		return leaving(code);
	unsigned room = to ? *count : 0;
	*count = read_processes(text, to, room);
	return leaving(*count > room ? INSUFFICIENT_SIZE : SUCCESS);
}
