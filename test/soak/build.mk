# Long runs, by public functions alone; not part of `make check`, which runs a short one.
SOAK := $(B)/test/soak/soak
MINUTES ?= 30
FRAMES  ?= 100000
$(B)/test/soak/soak.o: $(B)/%.o: %.c $(B)/.flags
	@mkdir -p $(@D)
	$(call SAY,CC)$(HOST_COMPILE) -MMD -MP -c $< -o $@
-include $(SOAK).d
$(SOAK): %: %.o $(SHARED)
	$(call SAY,LINK)$(LINK) -o $@ $< $(SHARED) -lm $(call RPATH,$(B)/test/soak,$(LIBOUT))
soak: $(SOAK) ## train, evaluate, save and segment for MINUTES=30, then FRAMES=100000 by one segmenter: nothing may grow
	$(SOAK) minutes $(MINUTES)
	$(SOAK) frames $(FRAMES)
.PHONY: soak
