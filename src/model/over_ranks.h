/* over_ranks.h - a model whose training forwards and backwards are collective (kdas_model_options.ranks): what every rank
 * does before and after one, so that all succeed or all fail. Without ranks, and in other modes, nothing. */
#ifndef KD_OVER_RANKS_H
#define KD_OVER_RANKS_H
#include "model/model.h"

/* Memory for it, before a forward begins. */
kdas_status kd_model_prepare_ranks(kdas_model *model, kd_mode mode);
/* Vote on beginning a forward of images h x w, or a backward. `mine`: whether this rank can; its sentence is the
 * thread's last. KDAS_ESHAPE: the ranks have images of different sizes. */
kdas_status kd_model_begin_forward(kdas_model *model, kd_mode mode, kdas_status mine, int64_t h,
                                   int64_t w);
kdas_status kd_model_begin_backward(kdas_model *model, kdas_status mine);
/* Vote on how a forward has ended, and make the ranges of grids those of all ranks' images. */
kdas_status kd_model_end_forward(kdas_model *model, kd_mode mode, kdas_status mine);
void        kd_model_finish_ranks(kdas_model *model);

#endif
