/* kdas/kdas.h - everything a host program needs. */
#ifndef KDAS_KDAS_H
#define KDAS_KDAS_H
#include <kdas/base.h>
#include <kdas/data.h>
#include <kdas/distill.h>
#include <kdas/export.h>
#include <kdas/image.h>
#include <kdas/infer.h>
#include <kdas/loss.h>
#include <kdas/metric.h>
#include <kdas/model.h>
#include <kdas/optim.h>
#include <kdas/profile.h>
#include <kdas/quantize.h>
#include <kdas/ranks.h>
#include <kdas/train.h>
#endif
