namespace Fabric.Migration.PageOrders;

/// <summary>
/// In which order the source pushes what the destination still lacks. An order owns the choice, not the map: others may claim pages in the same map,
/// atomically, at any time (the urgent path does), and such pages are simply not chosen any more. Called under one lock; an implementation needs none
/// of its own and allocates nothing per call.
/// </summary>
public interface IPageOrder
{
    /// <summary>
    /// The guest waited for this page, which until then nobody had claimed: what follows may want its neighbours next. Pages that were on
    /// their way already are not told: they make no pivot.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such page.</exception>
    void Faulted(long page);

    /// <summary>Nothing is left to choose between <paramref name="first"/> and <paramref name="last"/>, which lie at the newest fault: its neighbours begin beyond them.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There are no such pages.</exception>
    void WentAlong(long first, long last);

    /// <summary>
    /// As <see cref="Claim"/>, but only pages that the guest is likely to want though it did not ask for them, the likeliest first: for whoever sends them out of turn. 0 if none of them is left.
    /// </summary>
    int ClaimHot(Span<long> pages);

    /// <summary>
    /// Claims the next pages in the map: clears them atomically, and returns those that this call cleared, at most as many as fit, ascending from the
    /// front of <paramref name="pages"/>. They may be several runs from different places. 0 only if no page is left.
    /// </summary>
    int Claim(Span<long> pages);
}
