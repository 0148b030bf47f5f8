/* data.c - what the README's program wants to find: three frames with masks in TrainDataset, and a teacher. */
#include <kdas/kdas.h>
#include <stdio.h>
#include <sys/stat.h>

static kdas_status write_frame(kdas_context *ctx, const kdas_scene_options *scenes, int i)
{
    static const char *const kinds[] = { "images", "masks" };
    kdas_image              *image[2];
    kdas_status              st = kdas_scene_draw(&image[0], &image[1], ctx, i, scenes);

    if (st != KDAS_OK) return st;
    for (int k = 0; k < 2; k++) {
        kdas_view view = kdas_image_view(image[k]);
        char      path[64];

        snprintf(path, sizeof path, "TrainDataset/%s/%d.png", kinds[k], i);
        if (st == KDAS_OK) st = kdas_image_save(ctx, path, &view);
        kdas_image_destroy(image[k]);
    }
    return st;
}

static kdas_status write_teacher(kdas_context *ctx)
{
    kdas_model *teacher;
    kdas_status st = kdas_model_create(&teacher, ctx, "polyp_pvt_b2", NULL);

    if (st != KDAS_OK) return st;
    st = kdas_model_save(teacher, "teacher.safetensors");
    kdas_model_destroy(teacher);
    return st;
}

int main(void)
{
    kdas_scene_options scenes;
    kdas_context      *ctx = NULL;
    kdas_status        st  = kdas_context_create(&ctx, NULL);

    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.width = scenes.height = 64;
    mkdir("TrainDataset", 0777);
    mkdir("TrainDataset/images", 0777);
    mkdir("TrainDataset/masks", 0777);
    for (int i = 0; i < 3 && st == KDAS_OK; i++)
        st = write_frame(ctx, &scenes, i);
    if (st == KDAS_OK) st = write_teacher(ctx);
    if (st != KDAS_OK) fprintf(stderr, "%s\n", kdas_last_error());
    kdas_context_destroy(ctx);
    return st != KDAS_OK;
}
