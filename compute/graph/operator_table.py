"""The rows of the allowlist: what each operator takes, in torch's own schema language, by group.

`number` stands for Scalar, `dtype` for ScalarType, `int` also for SymInt, `size` for the lengths of a shape.
`name=` may be left out and then has torch's default; `name:=value` is always given to torch with that value, and
no document can give another. An argument of torch's that is left out here cannot be given at all, so it keeps
torch's default: devices, layouts, random generators, dropout.

To add a row: none may draw random numbers, show uninitialised memory, write to its inputs or have a shape that
depends on data; arguments that torch takes without a look need a check (refusals.py), the cost a formula (operations.py),
the memory beside inputs and outputs a bound (workspace.py), and the tests a sample (tests/unit/samples.py).
"""

from compute.graph.operator import Additions, Cost, Workspace

GROUPS: tuple[tuple[Cost, Workspace, Additions, str], ...] = (
    (
        Cost.MOVED,
        Workspace.CASTS,
        Additions.FIXED,
        """
        abs.default(Tensor self)
        neg.default(Tensor self)
        sign.default(Tensor self)
        ceil.default(Tensor self)
        floor.default(Tensor self)
        round.default(Tensor self)
        trunc.default(Tensor self)
        exp.default(Tensor self)
        expm1.default(Tensor self)
        reciprocal.default(Tensor self)
        tanh.default(Tensor self)
        erf.default(Tensor self)
        sigmoid.default(Tensor self)
        relu.default(Tensor self)
        leaky_relu.default(Tensor self, number negative_slope=)
        elu.default(Tensor self, number alpha=)
        gelu.default(Tensor self, *, str{none|tanh} approximate=)
        silu.default(Tensor self)
        softplus.default(Tensor self, number beta=, number threshold=)
        hardtanh.default(Tensor self, number min_val=, number max_val=)
        isnan.default(Tensor self)
        isinf.default(Tensor self)
        logical_not.default(Tensor self)
        bitwise_not.default(Tensor self)
        clamp.default(Tensor self, number? min=, number? max=)
        clamp_min.default(Tensor self, number min)
        clamp_max.default(Tensor self, number max)
        _to_copy.default(Tensor self, *, dtype dtype)
        add.Tensor(Tensor self, Tensor other, *, number alpha=)
        add.Scalar(Tensor self, number other, number alpha=)
        sub.Tensor(Tensor self, Tensor other, *, number alpha=)
        sub.Scalar(Tensor self, number other, number alpha=)
        rsub.Scalar(Tensor self, number other, number alpha=)
        mul.Tensor(Tensor self, Tensor other)
        mul.Scalar(Tensor self, number other)
        div.Tensor(Tensor self, Tensor other)
        div.Scalar(Tensor self, number other)
        maximum.default(Tensor self, Tensor other)
        minimum.default(Tensor self, Tensor other)
        eq.Tensor(Tensor self, Tensor other)
        eq.Scalar(Tensor self, number other)
        ne.Tensor(Tensor self, Tensor other)
        ne.Scalar(Tensor self, number other)
        lt.Tensor(Tensor self, Tensor other)
        lt.Scalar(Tensor self, number other)
        le.Tensor(Tensor self, Tensor other)
        le.Scalar(Tensor self, number other)
        gt.Tensor(Tensor self, Tensor other)
        gt.Scalar(Tensor self, number other)
        ge.Tensor(Tensor self, Tensor other)
        ge.Scalar(Tensor self, number other)
        logical_and.default(Tensor self, Tensor other)
        logical_or.default(Tensor self, Tensor other)
        logical_xor.default(Tensor self, Tensor other)
        bitwise_and.Tensor(Tensor self, Tensor other)
        bitwise_or.Tensor(Tensor self, Tensor other)
        bitwise_xor.Tensor(Tensor self, Tensor other)
        where.self(Tensor condition, Tensor self, Tensor other)
        masked_fill.Scalar(Tensor self, Tensor mask, number value)
        """,
    ),
    (
        Cost.FUNCTIONS,
        Workspace.CASTS,
        Additions.FIXED,
        """
        log.default(Tensor self)
        log1p.default(Tensor self)
        log2.default(Tensor self)
        sqrt.default(Tensor self)
        rsqrt.default(Tensor self)
        sin.default(Tensor self)
        cos.default(Tensor self)
        """,
    ),
    (
        Cost.POWERS,
        Workspace.CASTS,
        Additions.FIXED,
        """
        pow.Tensor_Tensor(Tensor self, Tensor exponent)
        pow.Tensor_Scalar(Tensor self, number exponent)
        pow.Scalar(number self, Tensor exponent)
        """,
    ),
    (
        Cost.REDUCED,
        Workspace.SUMS,
        Additions.FIXED,
        """
        sum.default(Tensor self, *, dtype? dtype=)
        sum.dim_IntList(Tensor self, int[]? dim, bool keepdim=, *, dtype? dtype=)
        mean.default(Tensor self, *, dtype? dtype=)
        mean.dim(Tensor self, int[]? dim, bool keepdim=, *, dtype? dtype=)
        amax.default(Tensor self, int[] dim=, bool keepdim=)
        amin.default(Tensor self, int[] dim=, bool keepdim=)
        max.dim(Tensor self, int dim, bool keepdim=) -> Tensor[]
        min.dim(Tensor self, int dim, bool keepdim=) -> Tensor[]
        """,
    ),
    (
        Cost.STATISTICS,
        Workspace.COPY,
        Additions.FIXED,
        """
        argmax.default(Tensor self, int? dim=, bool keepdim=)
        argmin.default(Tensor self, int? dim=, bool keepdim=)
        """,
    ),
    (
        Cost.STATISTICS,
        Workspace.SUMS,
        Additions.FIXED,
        """
        any.default(Tensor self)
        any.dim(Tensor self, int dim, bool keepdim=)
        all.default(Tensor self)
        all.dim(Tensor self, int dim, bool keepdim=)
        var.correction(Tensor self, int[]? dim=, *, number? correction=, bool keepdim=)
        linalg_vector_norm.default(Tensor self, number ord=, int[]? dim=, bool keepdim=, *, dtype? dtype=)
        """,
    ),
    (
        Cost.STATISTICS,
        Workspace.COPIES,
        Additions.FIXED,
        """
        logsumexp.default(Tensor self, int[] dim, bool keepdim=)
        """,
    ),
    (
        Cost.SORTED,
        Workspace.CASTS,
        Additions.TIES,
        """
        topk.default(Tensor self, int k, int dim=, bool largest=, bool sorted=) -> Tensor[]
        """,
    ),
    (
        Cost.MOVED,
        Workspace.CASTS,
        Additions.SCAN,
        """
        cumsum.default(Tensor self, int dim, *, dtype? dtype=)
        """,
    ),
    (
        Cost.NORMALISED,
        Workspace.COPIES,
        Additions.FIXED,
        """
        softmax.int(Tensor self, int dim, dtype? dtype=)
        log_softmax.int(Tensor self, int dim, dtype? dtype=)
        layer_norm.default(Tensor input, size[] normalized_shape, Tensor? weight=, Tensor? bias=, float eps=)
        rms_norm.default(Tensor input, size[] normalized_shape, Tensor? weight=, float? eps=)
        group_norm.default(Tensor input, int num_groups, Tensor? weight=, Tensor? bias=, float eps=)
        """,
    ),
    (
        Cost.MOVED,
        Workspace.COPIES,
        Additions.FIXED,
        """
        batch_norm.default(Tensor input, Tensor? weight, Tensor? bias, Tensor running_mean, Tensor running_var, bool training:=false, float momentum:=0.0, float eps, bool cudnn_enabled:=false)
        """,
    ),
    (
        Cost.MOVED,
        Workspace.NONE,
        Additions.FIXED,
        """
        transpose.int(Tensor self, int dim0, int dim1)
        permute.default(Tensor self, int[] dims)
        unsqueeze.default(Tensor self, int dim)
        squeeze.dim(Tensor self, int dim)
        squeeze.dims(Tensor self, int[] dim)
        expand.default(Tensor self, size[] size)
        slice.Tensor(Tensor self, int dim=, int? start=, int? end=, int step=)
        select.int(Tensor self, int dim, int index)
        """,
    ),
    (
        Cost.MOVED,
        Workspace.CASTS,
        Additions.FIXED,
        """
        reshape.default(Tensor self, size[] shape)
        repeat.default(Tensor self, size[] repeats)
        flip.default(Tensor self, int[] dims)
        constant_pad_nd.default(Tensor self, int[] pad, number value=)
        """,
    ),
    (
        Cost.MOVED,
        Workspace.COPY,
        Additions.FIXED,
        """
        embedding.default(Tensor weight, Tensor indices)
        gather.default(Tensor self, int dim, Tensor index)
        index_select.default(Tensor self, int dim, Tensor index)
        """,
    ),
    (
        Cost.INDEXED,
        Workspace.COPY,
        Additions.FIXED,
        """
        index.Tensor(Tensor self, Tensor?[] indices)
        """,
    ),
    (
        Cost.LISTS,
        Workspace.CASTS,
        Additions.FIXED,
        """
        cat.default(Tensor[] tensors, int dim=)
        stack.default(Tensor[] tensors, int dim=)
        """,
    ),
    (
        Cost.LISTS,
        Workspace.NONE,
        Additions.FIXED,
        """
        split.Tensor(Tensor self, int split_size, int dim=) -> Tensor[]
        split_with_sizes.default(Tensor self, size[] split_sizes, int dim=) -> Tensor[]
        chunk.default(Tensor self, int chunks, int dim=) -> Tensor[]
        unbind.int(Tensor self, int dim=) -> Tensor[]
        """,
    ),
    (
        Cost.TRIANGLE,
        Workspace.CASTS,
        Additions.FIXED,
        """
        tril.default(Tensor self, int diagonal=)
        triu.default(Tensor self, int diagonal=)
        """,
    ),
    (
        Cost.MOVED,
        Workspace.CASTS,
        Additions.FIXED,
        """
        full_like.default(Tensor self, number fill_value, *, dtype? dtype=)
        new_ones.default(Tensor self, size[] size, *, dtype? dtype=)
        new_zeros.default(Tensor self, size[] size, *, dtype? dtype=)
        new_full.default(Tensor self, size[] size, number fill_value, *, dtype? dtype=)
        arange.default(number end, *, dtype? dtype=) creates
        arange.start(number start, number end, *, dtype? dtype=) creates
        arange.start_step(number start, number end, number step=, *, dtype? dtype=) creates
        full.default(size[] size, number fill_value, *, dtype? dtype=) creates
        ones.default(size[] size, *, dtype? dtype=) creates
        zeros.default(size[] size, *, dtype? dtype=) creates
        scalar_tensor.default(number s, *, dtype? dtype=) creates
        """,
    ),
    (
        Cost.MATMUL,
        Workspace.PRODUCT,
        Additions.LIBRARY,
        """
        matmul.default(Tensor self, Tensor other)
        mm.default(Tensor self, Tensor mat2)
        bmm.default(Tensor self, Tensor mat2)
        addmm.default(Tensor self, Tensor mat1, Tensor mat2, *, number beta=, number alpha=)
        baddbmm.default(Tensor self, Tensor batch1, Tensor batch2, *, number beta=, number alpha=)
        """,
    ),
    (
        Cost.LINEAR,
        Workspace.PRODUCT,
        Additions.LIBRARY,
        """
        linear.default(Tensor input, Tensor weight, Tensor? bias=)
        """,
    ),
    (
        Cost.ATTENTION,
        Workspace.ATTENTION,
        Additions.LIBRARY,
        """
        scaled_dot_product_attention.default(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=, bool is_causal=, *, float? scale=, bool enable_gqa=)
        """,
    ),
    (
        Cost.CONVOLUTION,
        Workspace.CONVOLUTION,
        Additions.CUDNN,
        """
        convolution.default(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, bool transposed, int[] output_padding, int groups)
        """,
    ),
    (
        Cost.WINDOWS,
        Workspace.COPIES,
        Additions.FIXED,
        """
        max_pool2d.default(Tensor self, int[] kernel_size, int[] stride=, int[] padding=, int[] dilation=, bool ceil_mode=)
        avg_pool2d.default(Tensor self, int[] kernel_size, int[] stride=, int[] padding=, bool ceil_mode=, bool count_include_pad=, int? divisor_override=)
        adaptive_avg_pool2d.default(Tensor self, size[] output_size)
        """,
    ),
    (
        Cost.RESIZED,
        Workspace.COPIES,
        Additions.FIXED,
        """
        upsample_nearest2d.vec(Tensor input, size[]? output_size, float[]? scale_factors)
        upsample_bilinear2d.vec(Tensor input, size[]? output_size, bool align_corners, float[]? scale_factors)
        """,
    ),
    (
        Cost.RECURRENT,
        Workspace.RECURRENT,
        Additions.CUDNN,
        """
        lstm.input(Tensor input, Tensor[] hx, Tensor[] params, bool has_biases, int num_layers, float dropout:=0.0, bool train:=false, bool bidirectional, bool batch_first) -> Tensor[]
        """,
    ),
)  # fmt: skip
# ruff: noqa: E501 one operator, one line

SIZES = """
    of(Tensor self, int dim) -> int
    add(int a, int b) -> int
    sub(int a, int b) -> int
    mul(int a, int b) -> int
    floordiv(int a, int b) -> int
    mod(int a, int b) -> int
"""
