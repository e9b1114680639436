/* The part of the stand-in that tells of memory and temperature. */
#include "nvml_stand_in.h"

#include <stdio.h>

/* -- memory -- */

static int counted(const char *function, Device gpu, unsigned type, unsigned kind, const char *place, unsigned long long *to)
{
	static const char *const kinds[] = {"volatile", "aggregate"}, *const types[] = {"corrected", "uncorrected"};
	char name[64];
	TRY(enter(function, gpu));
	if (type > 1 || kind > 1 || place == NULL)
		return leaving(INVALID_ARGUMENT);
	snprintf(name, sizeof name, "ecc.%s.%s%s%s", kinds[kind], types[type], *place ? "." : "", place);
	return leaving(get_counter(gpu, NO_LINK, name, to));
}

EXPORT int nvmlDeviceGetTotalEccErrors(Device gpu, unsigned type, unsigned kind, unsigned long long *count)
{
	return counted("nvmlDeviceGetTotalEccErrors", gpu, type, kind, "", count);
}

EXPORT int nvmlDeviceGetMemoryErrorCounter(Device gpu, unsigned type, unsigned kind, unsigned place, unsigned long long *count)
{
	static const char *const places[] = {"l1", "l2", "dram", "register", "texture", "texture_shm", "cbu", "sram"};
	const char *named = place < sizeof places / sizeof *places ? places[place] : NULL;
	return counted("nvmlDeviceGetMemoryErrorCounter", gpu, type, kind, named, count);
}

EXPORT int nvmlDeviceGetSramEccErrorStatus(Device gpu, struct sram_status *status)
{
	TRY(enter("nvmlDeviceGetSramEccErrorStatus", gpu));
	if (status->version != VERSION(struct sram_status, 1))
		return leaving(VERSION_MISMATCH);
	status->aggregate_unc_parity = or_zero(gpu, "sram.aggregate_unc_parity");
	status->aggregate_unc_sec_ded = or_zero(gpu, "sram.aggregate_unc_sec_ded");
	status->aggregate_cor = or_zero(gpu, "sram.aggregate_cor");
	status->volatile_unc_parity = or_zero(gpu, "sram.volatile_unc_parity");
	status->volatile_unc_sec_ded = or_zero(gpu, "sram.volatile_unc_sec_ded");
	status->volatile_cor = or_zero(gpu, "sram.volatile_cor");
	status->bucket_l2 = or_zero(gpu, "sram.bucket_l2");
	status->bucket_sm = or_zero(gpu, "sram.bucket_sm");
	status->bucket_pcie = or_zero(gpu, "sram.bucket_pcie");
	status->bucket_mcu = or_zero(gpu, "sram.bucket_mcu");
	status->bucket_other = or_zero(gpu, "sram.bucket_other");
	return leaving(get_unsigned(gpu, "sram.threshold", &status->threshold_exceeded));
}

EXPORT int nvmlDeviceGetRemappedRows(Device gpu, unsigned *cor, unsigned *unc, unsigned *pending, unsigned *failed)
{
	TRY(enter("nvmlDeviceGetRemappedRows", gpu));
	return leaving(get_all(gpu, 4, (struct member[]){{"remap.corrected", cor},
							 {"remap.uncorrected", unc},
							 {"remap.pending", pending},
							 {"remap.failed", failed}}));
}

EXPORT int nvmlDeviceGetRemappedRows_v2(Device gpu, struct remapped_rows_v2 *rows)
{
	TRY(enter("nvmlDeviceGetRemappedRows_v2", gpu));
	return leaving(get_all(gpu, 6, (struct member[]){{"remap.corrected", &rows->cor_active},
							 {"remap.corrected_inactive", &rows->cor_inactive},
							 {"remap.uncorrected", &rows->unc_active},
							 {"remap.uncorrected_inactive", &rows->unc_inactive},
							 {"remap.pending", &rows->pending},
							 {"remap.failed", &rows->failure}}));
}

EXPORT int nvmlDeviceGetRowRemapperHistogram(Device gpu, struct remap_histogram *banks)
{
	TRY(enter("nvmlDeviceGetRowRemapperHistogram", gpu));
	return leaving(get_all(gpu, 5, (struct member[]){{"remap.banks_max", &banks->max},
							 {"remap.banks_high", &banks->high},
							 {"remap.banks_partial", &banks->partial},
							 {"remap.banks_low", &banks->low},
							 {"remap.banks_none", &banks->none}}));
}

EXPORT int nvmlDeviceGetRepairStatus(Device gpu, struct repair_status *status)
{
	TRY(enter("nvmlDeviceGetRepairStatus", gpu));
	if (status->version != VERSION(struct repair_status, 1))
		return leaving(VERSION_MISMATCH);
	return leaving(get_all(gpu, 2, (struct member[]){{"repair.channel_pending", &status->channel_pending},
							 {"repair.tpc_pending", &status->tpc_pending}}));
}

EXPORT int nvmlDeviceGetUnrepairableMemoryFlag_v1(Device gpu, struct versioned_unsigned *flag)
{
	TRY(enter("nvmlDeviceGetUnrepairableMemoryFlag_v1", gpu));
	if (flag->version != VERSION(struct versioned_unsigned, 1))
		return leaving(VERSION_MISMATCH);
	return leaving(get_unsigned(gpu, "repair.unrepairable", &flag->value));
}

static int retired(const char *function, Device gpu, unsigned cause, unsigned *count, unsigned long long *pages,
		   unsigned long long *times)
{
	unsigned number = 0;
	TRY(enter(function, gpu));
	int code = cause > 1 ? INVALID_ARGUMENT : get_unsigned(gpu, cause ? "retired.uncorrected" : "retired.corrected", &number);
	bool fits = pages != NULL && number <= *count;
	if (code == SUCCESS)
		*count = number;
	for (unsigned i = 0; code == SUCCESS && fits && i < number; i++) {
		pages[i] = 0x10000ULL * (i + 1);
		if (times != NULL)
			times[i] = 1700000000000000ULL + i;
	}
	return leaving(code == SUCCESS && !fits && number > 0 ? INSUFFICIENT_SIZE : code);
}

EXPORT int nvmlDeviceGetRetiredPages(Device gpu, unsigned cause, unsigned *count, unsigned long long *pages)
{
	return retired("nvmlDeviceGetRetiredPages", gpu, cause, count, pages, NULL);
}

EXPORT int nvmlDeviceGetRetiredPages_v2(Device gpu, unsigned cause, unsigned *count, unsigned long long *pages,
					unsigned long long *times)
{
	return retired("nvmlDeviceGetRetiredPages_v2", gpu, cause, count, pages, times);
}

EXPORT int nvmlDeviceGetMemoryInfo(Device gpu, struct memory *memory)
{
	TRY(enter("nvmlDeviceGetMemoryInfo", gpu));
	int code = get_counter(gpu, NO_LINK, "memory.total", &memory->total);
	memory->used = or_zero(gpu, "memory.used") + or_zero(gpu, "memory.reserved");
	memory->free = memory->total - memory->used;
	return leaving(code);
}

EXPORT int nvmlDeviceGetMemoryInfo_v2(Device gpu, struct memory_v2 *memory)
{
	TRY(enter("nvmlDeviceGetMemoryInfo_v2", gpu));
	if (memory->version != VERSION(struct memory_v2, 2))
		return leaving(VERSION_MISMATCH);
	int code = get_counter(gpu, NO_LINK, "memory.total", &memory->total);
	memory->used = or_zero(gpu, "memory.used");
	memory->reserved = or_zero(gpu, "memory.reserved");
	memory->free = memory->total - memory->used - memory->reserved;
	return leaving(code);
}

EXPORT int nvmlDeviceValidateInforom(Device gpu)
{
	unsigned valid = 1;
	TRY(enter("nvmlDeviceValidateInforom", gpu));
	int code = get_unsigned(gpu, "inforom.valid", &valid);
	return leaving(code == SUCCESS && !valid ? CORRUPTED_INFOROM : code);
}

/* -- temperature -- */

static int heat(Device gpu, int sensor, unsigned *degrees)
{
	static const char *const sensors[] = {"temperature", "temperature_max"};
	return sensor == 0 || sensor == 1 ? get_unsigned(gpu, sensors[sensor], degrees) : INVALID_ARGUMENT;
}

EXPORT int nvmlDeviceGetTemperature(Device gpu, int sensor, unsigned *degrees)
{
	TRY(enter("nvmlDeviceGetTemperature", gpu));
	return leaving(heat(gpu, sensor, degrees));
}

EXPORT int nvmlDeviceGetTemperatureV(Device gpu, struct temperature *asked)
{
	TRY(enter("nvmlDeviceGetTemperatureV", gpu));
	unsigned degrees = 0;
	int code = asked->version == VERSION(struct temperature, 1) ? heat(gpu, asked->sensor, &degrees) : VERSION_MISMATCH;
	asked->degrees = (int)degrees;
	return leaving(code);
}

EXPORT int nvmlDeviceGetTemperatureThreshold(Device gpu, unsigned threshold, unsigned *degrees)
{
	static const char *const names[] = {"threshold.shutdown", "threshold.slowdown", "threshold.memory_max", "threshold.gpu_max"};
	TRY(enter("nvmlDeviceGetTemperatureThreshold", gpu));
	return leaving(threshold < 4 ? get_unsigned(gpu, names[threshold], degrees) : INVALID_ARGUMENT);
}

EXPORT int nvmlDeviceGetMarginTemperature(Device gpu, struct versioned_int *margin)
{
	long long degrees = 0;
	TRY(enter("nvmlDeviceGetMarginTemperature", gpu));
	if (margin->version != VERSION(struct versioned_int, 1))
		return leaving(VERSION_MISMATCH);
	int code = get_number(gpu, NO_LINK, "margin", &degrees);
	margin->value = (int)degrees;
	return leaving(code);
}
