/* A stand-in for libnvidia-ml.so.1: it answers, fails and hangs as a text file says (nvml_stand_in.py tells its keys).
 *
 * - Signatures, structures, versions and codes are those of the public NVML header; the values are whatever the file says.
 * - What the file does not tell is NVML_ERROR_NOT_SUPPORTED, as it is on a GPU or a driver that has no such thing.
 * - Made up, for the header does not tell: the value types of most fields, and which code an unknown field or link returns
 *   (here NVML_ERROR_INVALID_ARGUMENT).
 */
#include "nvml_stand_in.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* -- one value -- */

int get_number(Device gpu, int link, const char *name, long long *number)
{
	const char *text;
	TRY(find_value(gpu, link, name, &text));
	*number = strtoll(text, NULL, 0);
	return SUCCESS;
}

int get_unsigned(Device gpu, const char *name, unsigned *value)
{
	long long number = 0;
	TRY(get_number(gpu, NO_LINK, name, &number));
	*value = (unsigned)number;
	return SUCCESS;
}

int get_counter(Device gpu, int link, const char *name, unsigned long long *value)
{
	long long number = 0;
	TRY(get_number(gpu, link, name, &number));
	*value = (unsigned long long)number;
	return SUCCESS;
}

unsigned long long or_zero(Device gpu, const char *name)
{
	unsigned long long value = 0;
	return get_counter(gpu, NO_LINK, name, &value) == SUCCESS ? value : 0;
}

int get_all(Device gpu, int count, const struct member *members)
{
	for (int i = 0; i < count; i++) {
		*members[i].to = 0;
		int code = get_unsigned(gpu, members[i].name, members[i].to);
		if (code != SUCCESS && (i == 0 || code != NOT_SUPPORTED))
			return code;
	}
	return SUCCESS;
}

int copy_text(const char *text, char *to, unsigned room)
{
	if (strlen(text) >= room)
		return INSUFFICIENT_SIZE;
	strcpy(to, text);
	return SUCCESS;
}

int get_text(Device gpu, const char *name, char *to, unsigned room)
{
	const char *text;
	TRY(find_value(gpu, NO_LINK, name, &text));
	return copy_text(text, to, room);
}

/* A function of a GPU that gives one text, one unsigned, two of them, or one of 64 bits. */
#define TEXT(function, name)                                                                                                   \
	EXPORT int function(Device gpu, char *to, unsigned room)                                                               \
	{                                                                                                                      \
		TRY(enter(#function, gpu));                                                                                    \
		return leaving(to ? get_text(gpu, name, to, room) : INVALID_ARGUMENT);                                         \
	}
#define UNSIGNED(function, name)                                                                                               \
	EXPORT int function(Device gpu, unsigned *value)                                                                       \
	{                                                                                                                      \
		TRY(enter(#function, gpu));                                                                                    \
		return leaving(value ? get_unsigned(gpu, name, value) : INVALID_ARGUMENT);                                     \
	}
#define TWO(function, first, second)                                                                                           \
	EXPORT int function(Device gpu, unsigned *one, unsigned *two)                                                          \
	{                                                                                                                      \
		TRY(enter(#function, gpu));                                                                                    \
		int code = get_unsigned(gpu, first, one);                                                                      \
		return leaving(code == SUCCESS ? get_unsigned(gpu, second, two) : code);                                       \
	}
#define WIDE(function, name)                                                                                                   \
	EXPORT int function(Device gpu, unsigned long long *value)                                                             \
	{                                                                                                                      \
		TRY(enter(#function, gpu));                                                                                    \
		return leaving(value ? get_counter(gpu, NO_LINK, name, value) : INVALID_ARGUMENT);                             \
	}

TEXT(nvmlDeviceGetName, "name")
TEXT(nvmlDeviceGetUUID, "uuid")
TEXT(nvmlDeviceGetSerial, "serial")
TEXT(nvmlDeviceGetVbiosVersion, "vbios")
TEXT(nvmlDeviceGetInforomImageVersion, "inforom.image")
UNSIGNED(nvmlDeviceGetArchitecture, "architecture")
UNSIGNED(nvmlDeviceGetMinorNumber, "minor")
UNSIGNED(nvmlDeviceGetPersistenceMode, "persistence")
UNSIGNED(nvmlDeviceGetPerformanceState, "pstate")
UNSIGNED(nvmlDeviceGetRetiredPagesPendingStatus, "retired.pending")
UNSIGNED(nvmlDeviceGetPowerUsage, "power_mw")
UNSIGNED(nvmlDeviceGetEnforcedPowerLimit, "power_limit_mw")
UNSIGNED(nvmlDeviceGetPowerManagementLimit, "power_limit_mw")
UNSIGNED(nvmlDeviceGetPowerManagementDefaultLimit, "power_default_mw")
UNSIGNED(nvmlDeviceGetCurrPcieLinkGeneration, "pcie.generation")
UNSIGNED(nvmlDeviceGetCurrPcieLinkWidth, "pcie.width")
UNSIGNED(nvmlDeviceGetMaxPcieLinkGeneration, "pcie.max_generation")
UNSIGNED(nvmlDeviceGetMaxPcieLinkWidth, "pcie.max_width")
UNSIGNED(nvmlDeviceGetGpuMaxPcieLinkGeneration, "pcie.gpu_max_generation")
UNSIGNED(nvmlDeviceGetPcieReplayCounter, "pcie.replays")
TWO(nvmlDeviceGetMigMode, "mig.current", "mig.pending")
TWO(nvmlDeviceGetGspFirmwareMode, "gsp.enabled", "gsp.default")
TWO(nvmlDeviceGetEccMode, "ecc.enabled", "ecc.pending")
WIDE(nvmlDeviceGetCurrentClocksEventReasons, "clocks.reasons")
WIDE(nvmlDeviceGetCurrentClocksThrottleReasons, "clocks.reasons")
WIDE(nvmlDeviceGetSupportedClocksEventReasons, "clocks.supported")
WIDE(nvmlDeviceGetSupportedEventTypes, "events")

/* -- the library -- */

static int initialise(const char *function)
{
	enter_unready(function);
	int code = initialised ? SUCCESS : (int)number_of("init", SUCCESS);
	initialised += code == SUCCESS;
	return leaving(code);
}

EXPORT int nvmlInit_v2(void)
{
	return initialise("nvmlInit_v2");
}

/* nvidia-ml-py calls this one; a state that speaks of nvmlInit_v2 means it as well. */
EXPORT int nvmlInitWithFlags(unsigned flags)
{
	(void)flags;
	return initialise("nvmlInit_v2");
}

EXPORT int nvmlShutdown(void)
{
	enter_unready("nvmlShutdown");
	int code = initialised ? SUCCESS : UNINITIALIZED;
	initialised -= code == SUCCESS;
	return leaving(code);
}

EXPORT const char *nvmlErrorString(int code)
{
	static const char *const texts[] = {
		"Success", "Uninitialized", "Invalid Argument", "Not Supported", "Insufficient Permissions", "Already Initialized",
		"Not Found", "Insufficient Size", "Insufficient External Power", "Driver Not Loaded", "Timeout",
		"Interrupt Request Issue", "NVML Shared Library Not Found", "Function Not Found", "Corrupted infoROM",
		"GPU is lost", "GPU requires reset", "GPU access blocked by the operating system",
		"Driver/library version mismatch", "In use by another client", "Insufficient Memory", "No data",
	};
	bool known = code >= 0 && code < (int)(sizeof texts / sizeof *texts);
	return known ? texts[code] : "Unknown Error";
}

static int system_text(const char *function, const char *key, const char *otherwise, char *to, unsigned room)
{
	TRY(enter(function, NULL));
	const char *text = text_of(key);
	return leaving(to ? copy_text(text ? text : otherwise, to, room) : INVALID_ARGUMENT);
}

EXPORT int nvmlSystemGetDriverVersion(char *to, unsigned room)
{
	return system_text("nvmlSystemGetDriverVersion", "driver", "550.163.01", to, room);
}

EXPORT int nvmlSystemGetNVMLVersion(char *to, unsigned room)
{
	return system_text("nvmlSystemGetNVMLVersion", "nvml", "12.550.163.01", to, room);
}

/* -- which GPUs there are -- */

EXPORT int nvmlDeviceGetCount_v2(unsigned *count)
{
	TRY(enter("nvmlDeviceGetCount_v2", NULL));
	*count = (unsigned)gpu_count();
	return leaving((int)number_of("count_code", SUCCESS));
}

static int give(Device gpu, int missing, Device *to)
{
	if (gpu == NULL)
		return missing;
	*to = gpu;
	return handle_code(gpu->number);
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *to)
{
	TRY(enter("nvmlDeviceGetHandleByIndex_v2", NULL));
	hang_on("nvmlDeviceGetHandleByIndex_v2", gpu_at(index));
	return leaving(give(gpu_at(index), INVALID_ARGUMENT, to));
}

EXPORT int nvmlDeviceGetIndex(Device gpu, unsigned *index)
{
	TRY(enter("nvmlDeviceGetIndex", gpu));
	*index = (unsigned)index_of(gpu);
	return leaving(gpu_code(gpu));
}

static int parse_address(const char *text, unsigned parts[4])
{
	return sscanf(text, "%x:%x:%x.%x", &parts[0], &parts[1], &parts[2], &parts[3]) == 4 ? SUCCESS : INVALID_ARGUMENT;
}

static bool has_address(Device gpu, const char *text)
{
	char mine[32];
	unsigned one[4], other[4];
	return get_text(gpu, "pci", mine, sizeof mine) == SUCCESS && parse_address(mine, one) == SUCCESS &&
	       parse_address(text, other) == SUCCESS && memcmp(one, other, sizeof one) == 0;
}

static bool has_uuid(Device gpu, const char *text)
{
	char mine[96];
	return get_text(gpu, "uuid", mine, sizeof mine) == SUCCESS && strcasecmp(mine, text) == 0;
}

static int search(const char *function, bool (*matches)(Device, const char *), const char *text, Device *to)
{
	TRY(enter(function, NULL));
	Device gpu = NULL;
	for (unsigned index = 0; text && (gpu = gpu_at(index)) != NULL && !matches(gpu, text); index++)
		;
	return leaving(give(gpu, NOT_FOUND, to));
}

EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *text, Device *to)
{
	return search("nvmlDeviceGetHandleByPciBusId_v2", has_address, text, to);
}

EXPORT int nvmlDeviceGetHandleByUUID(const char *text, Device *to)
{
	return search("nvmlDeviceGetHandleByUUID", has_uuid, text, to);
}

EXPORT int nvmlDeviceGetPciInfo_v3(Device gpu, struct pci_info *info)
{
	TRY(enter("nvmlDeviceGetPciInfo_v3", gpu));
	char text[32];
	unsigned at[4];
	memset(info, 0, sizeof *info);
	int code = get_text(gpu, "pci", text, sizeof text);
	if (code != SUCCESS || (code = parse_address(text, at)) != SUCCESS)
		return leaving(code);
	snprintf(info->bus_id, sizeof info->bus_id, "%08X:%02X:%02X.%X", at[0], at[1] & 0xff, at[2] & 0xff, at[3] & 0xf);
	snprintf(info->bus_id_legacy, sizeof info->bus_id_legacy, "%04X:%02X:%02X.%X", at[0] & 0xffff, at[1] & 0xff,
		 at[2] & 0xff, at[3] & 0xf);
	info->domain = at[0];
	info->bus = at[1];
	info->device = at[2];
	info->device_id = (unsigned)or_zero(gpu, "pci.device");
	info->subsystem_id = (unsigned)or_zero(gpu, "pci.subsystem");
	return leaving(SUCCESS);
}
