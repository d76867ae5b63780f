using Fabric.Benchmarks;

return args switch
{
    ["data-plane", .. var rest] => await DataPlane.RunAsync(rest),
    _ => 0,
};
