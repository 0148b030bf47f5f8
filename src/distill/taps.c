/* taps.c - which taps of the teacher guide which of the student: those of one stride, or those that
 * the options name. */
#include <stdio.h>
#include <string.h>
#include "distill/feature_inside.h"

/* ---- by stride ---- */

/* The first tap that is `stride` times smaller than the input. */
static const char *tap_of_stride(const kdas_model *m, int64_t stride)
{
    int64_t        side = kd_model_side(m->def); /* of the graph that it learns its names by */
    const kd_node *node;
    const char    *name;

    for (int i = 0; (name = kd_graph_tap(m->shape, i, &node)); i++)
        if (node->desc.out.dim[1] * stride == side && node->desc.out.dim[2] * stride == side)
            return name;
    return NULL;
}

/* "a, b, c" or "none", cut off where `to` ends. */
static void list_taps(char *to, size_t size, const kdas_model *m)
{
    size_t      used = 0;
    const char *name;

    snprintf(to, size, "none");
    for (int i = 0; (name = kdas_model_tap(m, i)) && used < size; i++)
        used += (size_t)snprintf(to + used, size - used, "%s%s", i ? ", " : "", name);
}

static void add_stride(kd_feature_pair *pair, int *pairs, const kdas_model *teacher,
                       const kdas_model *student, int64_t stride)
{
    const char *t = tap_of_stride(teacher, stride), *s = tap_of_stride(student, stride);

    if (t && s) pair[(*pairs)++] = (kd_feature_pair){ .teacher = t, .student = s };
}

/* Strides 4 to 32. Finer taps are large and know little of shapes, so they are taken only where
 * nothing else is shared, and then those of one stride. */
static kdas_status pair_by_stride(kd_feature_pair *pair, int *pairs, const kdas_model *teacher,
                                  const kdas_model *student)
{
    char of_teacher[160], of_student[160];

    *pairs = 0;
    for (int64_t stride = 4; stride <= 32; stride *= 2)
        add_stride(pair, pairs, teacher, student, stride);
    for (int64_t stride = 2; stride >= 1 && *pairs == 0; stride--)
        add_stride(pair, pairs, teacher, student, stride);
    if (*pairs) return KDAS_OK;
    list_taps(of_teacher, sizeof of_teacher, teacher);
    list_taps(of_student, sizeof of_student, student);
    return kd_fail(
        KDAS_EINVAL,
        "no tap of teacher '%s' (%s) has the stride of one of student '%s' (%s), from 1 to "
        "32: feature_taps names pairs of any sizes",
        teacher->def->name, of_teacher, student->def->name, of_student);
}

/* ---- by name ---- */

/* The model's own copy of a name of so many characters. */
static kdas_status find_tap(const char **out, const kdas_model *m, const char *text, size_t length)
{
    char        list[300];
    const char *name;

    for (int i = 0; (name = kdas_model_tap(m, i)); i++)
        if (strlen(name) == length && memcmp(name, text, length) == 0) {
            *out = name;
            return KDAS_OK;
        }
    list_taps(list, sizeof list, m);
    return kd_fail(KDAS_ENOTFOUND, "feature_taps: '%s' has no tap '%.*s'; it has: %s", m->def->name,
                   (int)KD_MIN(length, 64), text, list);
}

static kdas_status pair_by_name(kd_feature_pair *pair, int *pairs, const kdas_model *teacher,
                                const kdas_model *student, const char *text)
{
    *pairs = 0;
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ","), first = strcspn(at, ":,");
        int    shown = (int)KD_MIN(length, 100);

        if (*pairs == KD_MAX_PAIRS)
            return kd_fail(KDAS_EINVAL, "feature_taps has more than %d pairs", KD_MAX_PAIRS);
        if (first == length || memchr(at + first + 1, ':', length - first - 1))
            return kd_fail(KDAS_EINVAL,
                           "feature_taps: '%.*s' (pair %d) is not teacher's tap:student's tap",
                           shown, at, *pairs + 1);
        KD_RETURN(find_tap(&pair[*pairs].teacher, teacher, at, first));
        KD_RETURN(find_tap(&pair[*pairs].student, student, at + first + 1, length - first - 1));
        (*pairs)++;
        at += length;
        if (!*at) return KDAS_OK;
    }
}

kdas_status kd_pair_taps(kd_feature_pair *pair, int *pairs, const kdas_model *teacher,
                         const kdas_model *student, const char *text)
{
    return text && *text ? pair_by_name(pair, pairs, teacher, student, text)
                         : pair_by_stride(pair, pairs, teacher, student);
}
